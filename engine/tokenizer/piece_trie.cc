#include "engine/tokenizer/piece_trie.h"

#include <algorithm>

namespace comet {

void PieceTrie::Add(std::string_view piece, int token_id) {
  if (piece.empty()) return;
  int node_idx = 0;
  for (const char c : piece) {
    const auto byte = static_cast<uint8_t>(c);
    int child = Child(node_idx, byte);
    if (child < 0) {
      child = static_cast<int>(nodes_.size());
      nodes_.emplace_back();
      auto& children = nodes_[node_idx].children;
      const std::pair<uint8_t, int> edge(byte, child);
      children.insert(std::upper_bound(children.begin(), children.end(), edge), edge);
    }
    node_idx = child;
  }
  if (nodes_[node_idx].token_id < 0) nodes_[node_idx].token_id = token_id;
}

PieceTrie::Match PieceTrie::Longest(std::string_view text) const {
  Match longest;
  int node_idx = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node_idx = Child(node_idx, static_cast<uint8_t>(text[i]));
    if (node_idx < 0) break;
    const int token_id = nodes_[node_idx].token_id;
    if (token_id >= 0) longest = {token_id, i + 1};
  }
  return longest;
}

int PieceTrie::Child(int node_idx, uint8_t byte) const {
  const auto& children = nodes_[node_idx].children;
  const auto it =
      std::lower_bound(children.begin(), children.end(), std::pair<uint8_t, int>(byte, 0));
  return it != children.end() && it->first == byte ? it->second : -1;
}

}  // namespace comet
