#pragma once

#include "kernels/cuda/sample_row.cuh"

// A row's candidates in their order, in chunks: a histogram over the keys' highest bits finds how
// far down kChunk of them reach, which are then gathered and sorted in shared memory.
namespace comet::cuda::sample {

constexpr int kDigits = 4;
constexpr int kBinsPerThread = kBins / kThreads;

// Counts, into smem.bins, the digits at `shift` of the keys below `bound` whose digits above that
// one are `prefix`.
__device__ __forceinline__ void CountDigits(SampleSmem& smem, const float* values, int vocab_size,
                                            uint64_t bound, uint64_t prefix, int shift) {
  const uint64_t prefix_mask = ~((uint64_t{1} << (shift + kDigitBits)) - 1);
  for (int i = threadIdx.x; i < kBins; i += kThreads) smem.bins[i] = 0;
  __syncthreads();
  for (int id = threadIdx.x; id < vocab_size; id += kThreads) {
    const uint64_t key = OrderKey(values[id], id);
    if (key < bound && (key & prefix_mask) == prefix) {
      atomicAdd(&smem.bins[key >> shift & (kBins - 1)], 1);
    }
  }
  __syncthreads();
}

// What the bins above this thread's hold; thread 0 has the kBinsPerThread highest bins, from
// `first_bin` down.
__device__ __forceinline__ int CountAbove(SampleSmem& smem, int first_bin) {
  int of_thread = 0;
#pragma unroll
  for (int i = 0; i < kBinsPerThread; ++i) of_thread += smem.bins[first_bin - i];
  int inclusive = of_thread;
#pragma unroll
  for (int distance = 1; distance < kWarpLanes; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (static_cast<int>(threadIdx.x) % kWarpLanes >= distance) inclusive += before;
  }
  if (threadIdx.x % kWarpLanes == kWarpLanes - 1) {
    smem.warp_counts[threadIdx.x / kWarpLanes] = inclusive;
  }
  __syncthreads();
  int above = inclusive - of_thread;
  for (int warp = 0; warp < static_cast<int>(threadIdx.x) / kWarpLanes; ++warp) {
    above += smem.warp_counts[warp];
  }
  return above;
}

struct Crossing {
  int bin;  // -1: all bins fit.
  int num_above;
};

// The bin at which the count from the top passes kChunk.
__device__ __forceinline__ Crossing FindCrossing(SampleSmem& smem) {
  const int first_bin = kBins - 1 - static_cast<int>(threadIdx.x) * kBinsPerThread;
  int running = CountAbove(smem, first_bin);
  // If there is one, one thread finds it among its bins.
  if (threadIdx.x == 0) smem.stop_at = -1;
  __syncthreads();
  Crossing own = {.bin = -1, .num_above = 0};
#pragma unroll
  for (int i = 0; i < kBinsPerThread; ++i) {
    const int in_bin = smem.bins[first_bin - i];
    if (own.bin < 0 && running <= kChunk && running + in_bin > kChunk) {
      own = {.bin = first_bin - i, .num_above = running};
    }
    running += in_bin;
  }
  if (own.bin >= 0) {
    smem.stop_at = own.bin;
    smem.num_in_chunk = own.num_above;
  }
  __syncthreads();
  const Crossing found = {.bin = smem.stop_at, .num_above = smem.num_in_chunk};
  __syncthreads();
  return found;
}

// The lowest key from which at most kChunk and at least one candidate lie below `bound`: at each
// digit the bins from the top that fit; where not even one does, its next digit decides. Keys of
// four digits are distinct, so the last digit's bins fit. 0: all that are left.
__device__ __forceinline__ uint64_t ChunkThreshold(SampleSmem& smem, const float* values,
                                                   int vocab_size, uint64_t bound) {
  uint64_t prefix = 0;  // The digits fixed so far, in place.
  for (int digit = 0; digit < kDigits; ++digit) {
    const int shift = kDigitBits * (kDigits - 1 - digit);
    CountDigits(smem, values, vocab_size, bound, prefix, shift);
    const Crossing crossing = FindCrossing(smem);
    if (crossing.bin < 0) return prefix;  // All of this prefix fits.
    if (crossing.num_above > 0) return prefix | (static_cast<uint64_t>(crossing.bin) + 1) << shift;
    prefix |= static_cast<uint64_t>(crossing.bin) << shift;
  }
  return prefix;
}

// Sorts smem.chunk, descending.
__device__ __forceinline__ void SortChunk(SampleSmem& smem) {
  for (int size = 2; size <= kChunk; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      for (int i = threadIdx.x; i < kChunk / 2; i += kThreads) {
        const int low = 2 * i - (i & (stride - 1));
        const int high = low + stride;
        const bool is_descending = (low & size) == 0;
        const uint64_t a = smem.chunk[low];
        const uint64_t b = smem.chunk[high];
        if ((a < b) == is_descending) {
          smem.chunk[low] = b;
          smem.chunk[high] = a;
        }
      }
      __syncthreads();
    }
  }
}

// Fills smem.chunk with the highest keys below `bound`, sorted, and returns how many; 0: none left.
__device__ __forceinline__ int NextChunk(SampleSmem& smem, const float* values, int vocab_size,
                                         uint64_t bound) {
  const uint64_t threshold = ChunkThreshold(smem, values, vocab_size, bound);
  if (threadIdx.x == 0) smem.num_in_chunk = 0;
  for (int i = threadIdx.x; i < kChunk; i += kThreads) smem.chunk[i] = 0;
  __syncthreads();
  for (int id = threadIdx.x; id < vocab_size; id += kThreads) {
    const uint64_t key = OrderKey(values[id], id);
    if (key < bound && key >= threshold) smem.chunk[atomicAdd(&smem.num_in_chunk, 1)] = key;
  }
  __syncthreads();
  SortChunk(smem);
  const int num_in_chunk = smem.num_in_chunk;
  __syncthreads();
  return num_in_chunk;
}

// Walks the sorted candidates until step(index, key, weight) is true. Thread 0 alone calls it, and
// it may keep what it adds up in shared memory.
template <typename Step>
__device__ __forceinline__ void Walk(SampleSmem& smem, const float* values, int vocab_size,
                                     float max, const Step& step) {
  uint64_t bound = kAboveAll;
  int num_walked = 0;
  while (true) {
    const int num_in_chunk = NextChunk(smem, values, vocab_size, bound);
    if (num_in_chunk == 0) return;
    for (int i = threadIdx.x; i < num_in_chunk; i += kThreads) {
      smem.weights[i] = ExpOfNumber(ValueOf(smem.chunk[i]) - max);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int i = 0;
      while (i < num_in_chunk && !step(num_walked + i, smem.chunk[i], smem.weights[i])) ++i;
      smem.stop_at = i;
    }
    __syncthreads();
    const bool has_stopped = smem.stop_at < num_in_chunk;
    bound = smem.chunk[num_in_chunk - 1];
    __syncthreads();
    if (has_stopped) return;
    num_walked += num_in_chunk;
  }
}

}  // namespace comet::cuda::sample
