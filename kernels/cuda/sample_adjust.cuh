#pragma once

#include "kernels/cuda/sample_params.h"
#include "kernels/cuda/sample_row.cuh"

// Step 2 of kernels/ops/sample.h and the temperature: a row's logits with biases and penalties.
namespace comet::cuda::sample {

constexpr float kGreedyBelow = 0x1p-20f;

// Whether step 2 and the temperature leave the row's logits as they are: most rows.
__device__ __forceinline__ bool IsUnadjusted(const SampleParams& params, int row) {
  const float temperature = params.temperature[row];
  return params.bias_start[row] == params.bias_start[row + 1] &&
         params.history_start[row] == params.history_start[row + 1] &&
         (temperature < kGreedyBelow || temperature == 1.0f);
}

__device__ __forceinline__ void AdjustLogits(const SampleParams& params, int row, float* z) {
  const float* raw = params.logits + row * params.logits_stride;
  for (int id = threadIdx.x; id < params.vocab_size; id += kThreads) z[id] = raw[id];
  __syncthreads();

  // An id's biases are added in their order by the thread of its first one.
  const int bias_begin = params.bias_start[row];
  const int bias_end = params.bias_start[row + 1];
  for (int i = bias_begin + static_cast<int>(threadIdx.x); i < bias_end; i += kThreads) {
    const int id = params.bias_ids[i];
    bool is_first = true;
    for (int j = bias_begin; j < i; ++j) is_first = is_first && params.bias_ids[j] != id;
    if (!is_first) continue;
    float value = z[id];
    for (int j = i; j < bias_end; ++j) {
      if (params.bias_ids[j] == id) value += params.bias_values[j];
    }
    z[id] = value;
  }
  __syncthreads();

  const float repetition = params.repetition_penalty[row];
  const float frequency = params.frequency_penalty[row];
  const float presence = params.presence_penalty[row];
  const int history_end = params.history_start[row + 1];
  for (int i = params.history_start[row] + static_cast<int>(threadIdx.x); i < history_end;
       i += kThreads) {
    const int count = params.history_counts[i];
    float& value = z[params.history_ids[i]];
    value = value > 0.0f ? value / repetition : value * repetition;
    if (count > 0) value -= frequency * static_cast<float>(count) + presence;
  }
  __syncthreads();

  const float temperature = params.temperature[row];
  if (temperature < kGreedyBelow) return;
  for (int id = threadIdx.x; id < params.vocab_size; id += kThreads) z[id] = z[id] / temperature;
  __syncthreads();
}

}  // namespace comet::cuda::sample
