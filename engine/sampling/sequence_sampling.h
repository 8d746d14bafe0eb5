#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "engine/request.h"
#include "engine/sampling/token_history.h"

namespace comet {

// The uniform number in [0, 1) that chooses one token: a hash of the request's seed, the choice and
// the position of the token in the output. So a result depends on neither batch, chunking nor
// preemption.
float UniformOf(uint64_t seed, int choice_idx, int output_position);

// How one sequence's tokens are chosen, and what of its past that needs. Confined to the step
// thread.
class SequenceSampling {
 public:
  // `params` is shared by the choices of a request: immutable, and as large as its logit_bias.
  SequenceSampling(std::shared_ptr<const SamplingParams> params, uint64_t seed, int choice_idx,
                   int num_top_logprobs, std::span<const int> prompt_ids);

  // Tells what the penalties read, in the order of the output.
  void AddOutput(int token_id);

  const SamplingParams& params() const { return *params_; }
  int num_top_logprobs() const { return num_top_logprobs_; }  // -1: none; see Request.
  float UniformAt(int output_position) const {
    return UniformOf(seed_, choice_idx_, output_position);
  }
  // Null when no penalty reads it.
  const TokenHistory* history() const { return history_ ? &*history_ : nullptr; }

 private:
  std::shared_ptr<const SamplingParams> params_;
  uint64_t seed_;
  int choice_idx_;
  int num_top_logprobs_;
  std::optional<TokenHistory> history_;
};

}  // namespace comet
