#include "engine/tokenizer/merge_table.h"

#include <bit>
#include <string>
#include <string_view>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/str_cat.h"

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

Status AddMerges(const Tokenizer& tokenizer, MergeTable& table) {
  const std::vector<std::string>& merges = tokenizer.vocabulary().merges;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos) {
      return InvalidArgument(
          StrCat("tokenizer: merges[", rank, "] is '", merge, "', expected 'left right'"));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    const int left_id = tokenizer.FindToken(left);
    const int right_id = tokenizer.FindToken(right);
    const int joined_id = tokenizer.FindToken(StrCat(left, right));
    if (left_id < 0 || right_id < 0 || joined_id < 0) {
      return InvalidArgument(StrCat("tokenizer: merges[", rank, "] is '", merge,
                                    "', expected both sides and their sum in the vocabulary"));
    }
    table.Add(left_id, right_id, {static_cast<int>(rank), joined_id});
  }
  return Status::Ok();
}

}  // namespace comet
