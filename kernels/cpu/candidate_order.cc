#include "kernels/cpu/candidate_order.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <limits>

namespace comet::cpu {
namespace {

// Bands of values below the largest, sorted one at a time. Of logits, the first holds what has at
// least 2 % of the most probable token's weight, usually a handful; the last takes all that is
// left.
constexpr float kBandDepths[] = {4.0f, 8.0f, 16.0f, std::numeric_limits<float>::infinity()};

}  // namespace

CandidateOrder::CandidateOrder(std::span<const float> values, Scratch<int>& ids)
    : values_(values),
      ids_(ids.Get(static_cast<int64_t>(values.size()))),
      max_(*std::max_element(values.begin(), values.end())) {}

void CandidateOrder::SortNextBand() {
  const bool is_first = band_idx_ == 0;
  const float high = is_first ? 0.0f : max_ - kBandDepths[band_idx_ - 1];
  const float low = max_ - kBandDepths[band_idx_];
  ++band_idx_;
  int* end = ids_ + num_sorted_;
  for (size_t id = 0; id < values_.size(); ++id) {
    const float value = values_[id];
    if (value >= low && (is_first || value < high)) *end++ = static_cast<int>(id);
  }
  std::sort(ids_ + num_sorted_, end, [this](int a, int b) {
    const float value_a = values_[static_cast<size_t>(a)];
    const float value_b = values_[static_cast<size_t>(b)];
    return value_a != value_b ? value_a > value_b : a < b;
  });
  num_sorted_ = static_cast<int>(end - ids_);
}

}  // namespace comet::cpu
