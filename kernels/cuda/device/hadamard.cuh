#pragma once

#include "kernels/cuda/row_launch.h"
#include "kernels/ops/linear_input.h"

namespace comet::cuda {

// H x / sqrt(128) of one block, Sylvester order, eight neighbouring channels a thread of sixteen
// neighbouring lanes, all of which call it: strides 1 to 4 in registers, 8 to 64 between lanes.
// `factor` is 1 / sqrt(128).
__device__ __forceinline__ void HadamardBlock(float (&x)[kChunk], float factor) {
  constexpr int kLanes = kBlockChannels / kChunk;
  const unsigned lane_idx = threadIdx.x % 32;
  const unsigned lanes = 0xffffu << (lane_idx & kLanes);
#pragma unroll
  for (int stride = 1; stride < kChunk; stride *= 2) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if ((i & stride) != 0) continue;
      const float a = x[i];
      const float b = x[i + stride];
      x[i] = a + b;
      x[i + stride] = a - b;
    }
  }
#pragma unroll
  for (int stride = 1; stride < kLanes; stride *= 2) {
#pragma unroll
    for (float& value : x) {
      const float other = __shfl_xor_sync(lanes, value, stride);
      value = (lane_idx & stride) != 0 ? other - value : value + other;
    }
  }
#pragma unroll
  for (float& value : x) value = value * factor;
}

}  // namespace comet::cuda
