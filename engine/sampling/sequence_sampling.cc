#include "engine/sampling/sequence_sampling.h"

#include <utility>

#include "kernels/base/random.h"

namespace comet {
namespace {

bool HasPenalty(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

}  // namespace

float UniformOf(uint64_t seed, int choice_idx, int output_position) {
  const uint64_t choice_bits = MixBits(MixBits(seed) + static_cast<uint64_t>(choice_idx));
  const uint64_t bits = MixBits(choice_bits + static_cast<uint64_t>(output_position));
  return static_cast<float>(bits >> 40) * 0x1p-24f;
}

SequenceSampling::SequenceSampling(std::shared_ptr<const SamplingParams> params, uint64_t seed,
                                   int choice_idx, int num_top_logprobs,
                                   std::span<const int> prompt_ids)
    : params_(std::move(params)),
      seed_(seed),
      choice_idx_(choice_idx),
      num_top_logprobs_(num_top_logprobs) {
  if (HasPenalty(*params_)) history_.emplace(prompt_ids);
}

void SequenceSampling::AddOutput(int token_id) {
  if (history_) history_->AddOutput(token_id);
}

}  // namespace comet
