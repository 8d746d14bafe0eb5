#pragma once

#include <cstdint>

namespace comet::cuda {

// The kernel's argument; names as in kernels/ops/sample.h.
struct SampleParams {
  int32_t* token;
  float* logprob;
  int32_t* nonfinite_count;
  int32_t* top_ids;  // Null: none wanted.
  float* top_logprobs;
  int64_t top_ids_stride;
  int64_t top_logprobs_stride;
  int num_top;
  const float* logits;
  int64_t logits_stride;
  int vocab_size;
  float* scratch;  // [num_rows, vocab_size]
  const float* temperature;
  const int32_t* top_k;
  const float* top_p;
  const float* min_p;
  const float* repetition_penalty;
  const float* presence_penalty;
  const float* frequency_penalty;
  const float* uniform;
  const int32_t* history_start;
  const int32_t* history_ids;
  const int32_t* history_counts;
  const int32_t* bias_start;
  const int32_t* bias_ids;
  const float* bias_values;
};

}  // namespace comet::cuda
