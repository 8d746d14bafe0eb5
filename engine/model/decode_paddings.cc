#include "engine/model/decode_paddings.h"

#include <algorithm>
#include <cstdint>

#include "engine/model/model.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {
namespace {

// A product takes its tokens in tiles of 8, then 16: between these sizes padding costs next to
// nothing there, and the other ops' share of a row is small.
int NextSize(int size) {
  if (size < 4) return 2 * size;
  if (size < 8) return 8;
  if (size < 32) return size + 8;
  if (size < 256) return size + 16;
  return size + (size < 512 ? 32 : 64);
}

// Attention of few sequences is split over the device by the longest context that a step may have,
// and the page table is sent as wide: a step of short contexts must not pay for long ones.
constexpr int kShortestContext = 1024;
constexpr int kContextFactor = 4;

}  // namespace

std::vector<StepPadding> DecodePaddings(const ModelLimits& limits, int page_id) {
  const int sequences_max =
      std::min({limits.sequences_max, limits.logits_rows_max, limits.step_tokens_max});
  const int context_max = limits.pages_per_sequence_max * kPageTokens;
  std::vector<StepPadding> paddings;
  for (int size = 1;; size = NextSize(size)) {
    const int num_sequences = std::min(size, sequences_max);
    for (int64_t context = kShortestContext; context < context_max; context *= kContextFactor) {
      paddings.push_back({num_sequences, static_cast<int>(context), page_id});
    }
    paddings.push_back({num_sequences, context_max, page_id});
    if (num_sequences == sequences_max) return paddings;
  }
}

int FindPadding(const std::vector<StepPadding>& paddings, const StepInput& step) {
  const size_t num_sequences = step.context_length.size();
  if (num_sequences == 0 || step.token_ids.size() != num_sequences ||
      step.logits_rows.size() != num_sequences) {
    return -1;
  }
  const int context_length_max =
      *std::max_element(step.context_length.begin(), step.context_length.end());
  const auto found =
      std::find_if(paddings.begin(), paddings.end(), [&](const StepPadding& padding) {
        return padding.num_sequences >= static_cast<int>(num_sequences) &&
               padding.context_length_max >= context_length_max;
      });
  return found == paddings.end() ? -1 : static_cast<int>(found - paddings.begin());
}

}  // namespace comet
