#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace comet {

// Finds the longest of a set of pieces at a place in a text. Immutable after the last Add().
class PieceTrie {
 public:
  struct Match {
    int token_id = -1;  // -1: no piece begins here.
    size_t num_bytes = 0;
  };

  // An empty piece is ignored; of equal pieces the first stays.
  void Add(std::string_view piece, int token_id);

  Match Longest(std::string_view text) const;

  bool empty() const { return nodes_.size() == 1; }

 private:
  struct Node {
    std::vector<std::pair<uint8_t, int>> children;  // Byte and node, by byte.
    int token_id = -1;
  };

  int Child(int node_idx, uint8_t byte) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
};

}  // namespace comet
