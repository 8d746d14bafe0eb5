#pragma once

#include <numeric>
#include <span>
#include <vector>

#include "engine/model/model.h"
#include "kernels/base/math.h"
#include "kernels/make_backend.h"

namespace comet {

// What unquantised weights are computed with where nothing is to be rounded.
inline constexpr Precision kFloatPrecision{.weights = WeightMode::kFloat,
                                           .activations = ActivationMode::kFloat,
                                           .kv = {.k_bits = 32, .v_bits = 32},
                                           .kv_from_checkpoint = false};

// For a model that runs one sequence of up to so many tokens, all of them in one step.
inline constexpr ModelLimits LimitsOfOneSequence(int num_tokens) {
  const int num_pages = CeilDiv(num_tokens, kPageTokens);
  return {.step_tokens_max = num_tokens,
          .sequences_max = 1,
          .logits_rows_max = num_tokens,
          .pages_per_sequence_max = num_pages,
          .num_pages = num_pages};
}

// Tokens of a sequence at the positions from `first` on; the ones before have been computed.
struct SequenceTokens {
  std::span<const int> ids;
  int first = 0;
};

// Logits [rows.size(), vocab_size] of `rows` of the tokens, in host memory, by a model with
// `limits` of one sequence.
inline Result<std::vector<float>> ComputeLogits(Backend& backend, Model& model,
                                                const ModelLimits& limits,
                                                const SequenceTokens& tokens,
                                                std::span<const int> rows) {
  const int query_start[] = {0, static_cast<int>(tokens.ids.size())};
  const int context_length = tokens.first + query_start[1];
  std::vector<int> pages(static_cast<size_t>(limits.pages_per_sequence_max));
  std::iota(pages.begin(), pages.end(), 0);
  COMET_ASSIGN_OR_RETURN(const TensorView logits,
                         model.Forward({.token_ids = tokens.ids,
                                        .query_start = query_start,
                                        .context_length = {&context_length, 1},
                                        .page_table = pages,
                                        .logits_rows = rows}));
  std::vector<float> values(static_cast<size_t>(logits.shape().num_elements()));
  COMET_RETURN_IF_ERROR(backend.device->CopyToHost(
      values.data(), logits.data(), static_cast<int64_t>(values.size() * sizeof(float))));
  return values;
}

// 0 to count - 1.
inline std::vector<int> FirstIntegers(int count) {
  std::vector<int> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

}  // namespace comet
