#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/base/status.h"

namespace comet {

struct Merge {
  int rank = -1;  // -1: the pair never joins.
  int token_id = -1;
};

// Which pairs of tokens join, and how early: an open-addressing table, because one look-up a pair
// of neighbours is most of the work of encoding (std::unordered_map halves the speed). Immutable
// after the last Add().
class MergeTable {
 public:
  explicit MergeTable(size_t num_merges);

  // Of equal pairs the first stays. At most num_merges calls.
  void Add(int left_id, int right_id, Merge merge);

  Merge Find(int left_id, int right_id) const;

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;  // rank < 0: free.
  };

  size_t SlotOf(uint64_t key) const;

  std::vector<Slot> slots_;  // A power of two, at most half full.
  int shift_;
};

// How tokens join by rank: a Rule of SymbolMerger.
struct RankRule {
  using Priority = int;

  bool Find(int left_id, int right_id, int& rank, int& joined_id) const {
    const Merge merge = merges.Find(left_id, right_id);
    rank = merge.rank;
    joined_id = merge.token_id;
    return merge.rank >= 0;
  }
  int Join(int /*left_id*/, int /*right_id*/, int joined_id) const { return joined_id; }

  const MergeTable& merges;
};

class Tokenizer;

// Fills `table` with the merges of the tokenizer's vocabulary. Errors: kInvalidArgument naming a
// merge that is not "left right" of pieces whose sum is a piece.
Status AddMerges(const Tokenizer& tokenizer, MergeTable& table);

}  // namespace comet
