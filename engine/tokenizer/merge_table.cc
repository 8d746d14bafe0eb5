#include "engine/tokenizer/merge_table.h"

#include <bit>

namespace comet {
namespace {

constexpr uint64_t kGoldenRatio = 0x9E3779B97F4A7C15;  // Fibonacci hashing, Knuth vol. 3, 6.4.

uint64_t KeyOf(int left_id, int right_id) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left_id)) << 32 |
         static_cast<uint32_t>(right_id);
}

}  // namespace

MergeTable::MergeTable(size_t num_merges)
    : slots_(std::bit_ceil(2 * num_merges + 2)), shift_(64 - std::countr_zero(slots_.size())) {}

void MergeTable::Add(int left_id, int right_id, Merge merge) {
  const uint64_t key = KeyOf(left_id, right_id);
  Slot& slot = slots_[SlotOf(key)];
  if (slot.merge.rank < 0) slot = {key, merge};
}

Merge MergeTable::Find(int left_id, int right_id) const {
  return slots_[SlotOf(KeyOf(left_id, right_id))].merge;
}

// The slot that holds the key, or the free one where it belongs.
size_t MergeTable::SlotOf(uint64_t key) const {
  size_t i = (key * kGoldenRatio) >> shift_;
  while (slots_[i].merge.rank >= 0 && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
  return i;
}

}  // namespace comet
