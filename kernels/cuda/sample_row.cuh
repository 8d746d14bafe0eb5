#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/base/exact_math.h"
#include "kernels/cuda/device/exact_math.cuh"
#include "kernels/cuda/sample_keys.cuh"

// The CTA of a row: its shape, its shared memory, and what it finds out by one pass over all of the
// row's values.
namespace comet::cuda::sample {

constexpr int kThreads = kSumLanes;
constexpr int kWarpLanes = 32;
constexpr int kWarps = kThreads / kWarpLanes;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kDigitBits = 13;  // Four digits make an order key of 32 + kIdBits bits.
constexpr int kBins = 1 << kDigitBits;
constexpr int kChunk = 1024;  // Candidates sorted at once: with the bins 44 KB.

struct SampleSmem {
  union {
    float lanes[kSumLanes];
    int bins[kBins];
  };
  uint64_t chunk[kChunk];  // Order keys, descending.
  float weights[kChunk];
  uint64_t warp_keys[kWarps];
  int warp_counts[kWarps];
  uint64_t key;   // What a walk found.
  float running;  // The sum of a walk.
  int num_in_chunk;
  int stop_at;
};

__device__ __forceinline__ uint64_t BlockMaxKey(SampleSmem& smem, uint64_t key) {
  const auto max_of_warp = [](uint64_t x) {
#pragma unroll
    for (int mask = kWarpLanes / 2; mask > 0; mask /= 2) {
      const uint64_t other = __shfl_xor_sync(kAllLanes, x, mask);
      x = other > x ? other : x;
    }
    return x;
  };
  key = max_of_warp(key);
  if (threadIdx.x % kWarpLanes == 0) smem.warp_keys[threadIdx.x / kWarpLanes] = key;
  __syncthreads();
  key = max_of_warp(smem.warp_keys[threadIdx.x % kWarps]);
  __syncthreads();
  return key;
}

__device__ __forceinline__ int BlockCount(SampleSmem& smem, int x) {
  const int of_warp = __reduce_add_sync(kAllLanes, x);
  if (threadIdx.x % kWarpLanes == 0) smem.warp_counts[threadIdx.x / kWarpLanes] = of_warp;
  __syncthreads();
  const int total = __reduce_add_sync(kAllLanes, smem.warp_counts[threadIdx.x % kWarps]);
  __syncthreads();
  return total;
}

// The contract's Sum(): thread j holds lane j; adjacent lanes are added pairwise, ten times.
__device__ __forceinline__ float BlockSum(SampleSmem& smem, float lane) {
  smem.lanes[threadIdx.x] = lane;
  __syncthreads();
  for (int count = kSumLanes / 2; count >= 1; count /= 2) {
    float pair = 0.0f;
    const int i = static_cast<int>(threadIdx.x);
    if (i < count) pair = smem.lanes[2 * i] + smem.lanes[2 * i + 1];
    __syncthreads();
    if (i < count) smem.lanes[i] = pair;
    __syncthreads();
  }
  const float sum = smem.lanes[0];
  __syncthreads();
  return sum;
}

// Sum of Exp(values[id] - max) over the ids whose key is at least `last_kept`.
__device__ __forceinline__ float SumOfWeights(SampleSmem& smem, const float* values, int vocab_size,
                                              float max, uint64_t last_kept) {
  float lane = 0.0f;
#pragma unroll 4
  for (int id = threadIdx.x; id < vocab_size; id += kThreads) {
    const float value = values[id];
    const bool is_kept = OrderKey(value, id) >= last_kept;
    lane += is_kept ? ExpOfNumber(value - max) : 0.0f;
  }
  return BlockSum(smem, lane);
}

struct RowScan {
  uint64_t best;  // The key of the largest value, where all are finite.
  int num_nonfinite;
};

// Every thread sees its ids ascending, so the first of equals stays.
__device__ __forceinline__ RowScan ScanRow(SampleSmem& smem, const float* values, int vocab_size) {
  float largest = -INFINITY;
  int largest_id = 0;
  int num_nonfinite = 0;
#pragma unroll 8
  for (int id = threadIdx.x; id < vocab_size; id += kThreads) {
    const float value = values[id];
    num_nonfinite += isfinite(value) ? 0 : 1;
    if (value > largest) {
      largest = value;
      largest_id = id;
    }
  }
  const uint64_t key = largest > -INFINITY ? OrderKey(largest, largest_id) : 0;
  return {BlockMaxKey(smem, key), BlockCount(smem, num_nonfinite)};
}

}  // namespace comet::cuda::sample
