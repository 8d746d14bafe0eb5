// kernels/cuda/sample.cu
//
// Mapping  One CTA of 1024 threads a row: thread j is lane j of the contract's sums.
// Traffic  The row's logits are read twice and their adjusted form, in scratch where biases,
//          penalties or a temperature change it, once for each sum and each pass of a selection,
//          all but the first time from L2. Latency of these passes bounds a row, about a dozen for
//          a sampled token, two for a greedy one; rows are independent.
// Order    Sorted candidates come in chunks: a histogram over the order's highest bits finds how
//          far down kChunk of them reach, which are then gathered and sorted in shared memory. One
//          thread adds their weights in order, as the contract asks; chunks beyond the choice are
//          never made.
// Limits   2^20 ids.

#include "kernels/cuda/sample.h"

#include <cmath>

#include "kernels/base/exact_math.h"
#include "kernels/base/str_cat.h"
#include "kernels/cuda/device/exact_math.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/launch.h"

namespace comet::cuda {
namespace {

constexpr int kThreads = kSumLanes;
constexpr int kWarpLanes = 32;
constexpr int kWarps = kThreads / kWarpLanes;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kIdBits = 20;
constexpr int kIdsMax = 1 << kIdBits;
constexpr int kDigitBits = 13;  // Four digits make an order key of 32 + kIdBits bits.
constexpr int kDigits = 4;
constexpr int kBins = 1 << kDigitBits;
constexpr int kBinsPerThread = kBins / kThreads;
constexpr int kChunk = 1024;  // Candidates sorted at once: with the bins 44 KB.
constexpr float kGreedyBelow = 0x1p-20f;

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

// Larger keys come first: by value, then by the lower id. Keys of a row differ.
__device__ __forceinline__ uint64_t OrderKey(float value, int id) {
  const uint32_t bits = __float_as_uint(value + 0.0f);  // -0 counts as 0.
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{ascending} << kIdBits | static_cast<uint32_t>(kIdsMax - 1 - id);
}
__device__ __forceinline__ int IdOf(uint64_t key) {
  return kIdsMax - 1 - static_cast<int>(key & (kIdsMax - 1));
}
__device__ __forceinline__ float ValueOf(uint64_t key) {
  const uint32_t ascending = static_cast<uint32_t>(key >> kIdBits);
  return __uint_as_float((ascending & 0x80000000u) != 0 ? ascending & 0x7fffffffu : ~ascending);
}
constexpr uint64_t kAboveAll = uint64_t{1} << (32 + kIdBits);

__device__ uint64_t BlockMaxKey(SampleSmem& smem, uint64_t key) {
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

__device__ int BlockCount(SampleSmem& smem, int x) {
  const int of_warp = __reduce_add_sync(kAllLanes, x);
  if (threadIdx.x % kWarpLanes == 0) smem.warp_counts[threadIdx.x / kWarpLanes] = of_warp;
  __syncthreads();
  const int total = __reduce_add_sync(kAllLanes, smem.warp_counts[threadIdx.x % kWarps]);
  __syncthreads();
  return total;
}

// The contract's Sum(): thread j holds lane j; adjacent lanes are added pairwise, ten times.
__device__ float BlockSum(SampleSmem& smem, float lane) {
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
__device__ float SumOfWeights(SampleSmem& smem, const float* values, int vocab_size, float max,
                              uint64_t last_kept) {
  float lane = 0.0f;
#pragma unroll 4
  for (int id = threadIdx.x; id < vocab_size; id += kThreads) {
    const float value = values[id];
    const bool is_kept = OrderKey(value, id) >= last_kept;
    lane += is_kept ? ExpOfNumber(value - max) : 0.0f;
  }
  return BlockSum(smem, lane);
}

// The lowest key from which at most kChunk and at least one candidate lie below `bound`: at each
// digit the bins from the top that fit; where not even one does, its next digit decides. Keys of
// four digits are distinct, so the last digit's bins fit. 0: all that are left.
__device__ uint64_t ChunkThreshold(SampleSmem& smem, const float* values, int vocab_size,
                                   uint64_t bound) {
  uint64_t prefix = 0;  // The digits fixed so far, in place.
  for (int digit = 0; digit < kDigits; ++digit) {
    const int shift = kDigitBits * (kDigits - 1 - digit);
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

    // Thread 0 has the highest bins.
    const int first_bin = kBins - 1 - static_cast<int>(threadIdx.x) * kBinsPerThread;
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
    int running = inclusive - of_thread;
    for (int warp = 0; warp < static_cast<int>(threadIdx.x) / kWarpLanes; ++warp) {
      running += smem.warp_counts[warp];
    }
    // The bin at which the count passes kChunk, if there is one, is this thread's to find.
    if (threadIdx.x == 0) smem.stop_at = -1;
    __syncthreads();
    int crossing = -1;
    int num_before = 0;
#pragma unroll
    for (int i = 0; i < kBinsPerThread; ++i) {
      const int in_bin = smem.bins[first_bin - i];
      if (crossing < 0 && running <= kChunk && running + in_bin > kChunk) {
        crossing = first_bin - i;
        num_before = running;
      }
      running += in_bin;
    }
    if (crossing >= 0) {
      smem.stop_at = crossing;
      smem.num_in_chunk = num_before;
    }
    __syncthreads();
    const int stop_bin = smem.stop_at;
    const int num_above = smem.num_in_chunk;
    __syncthreads();
    if (stop_bin < 0) return prefix;  // All of this prefix fits.
    if (num_above > 0) return prefix | (static_cast<uint64_t>(stop_bin) + 1) << shift;
    prefix |= static_cast<uint64_t>(stop_bin) << shift;
  }
  return prefix;
}

// Sorts smem.chunk, descending.
__device__ void SortChunk(SampleSmem& smem) {
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
__device__ int NextChunk(SampleSmem& smem, const float* values, int vocab_size, uint64_t bound) {
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
__device__ void Walk(SampleSmem& smem, const float* values, int vocab_size, float max,
                     const Step& step) {
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

// Whether step 2 and the temperature leave the row's logits as they are: most rows.
__device__ bool IsUnadjusted(const SampleParams& params, int row) {
  const float temperature = params.temperature[row];
  return params.bias_start[row] == params.bias_start[row + 1] &&
         params.history_start[row] == params.history_start[row + 1] &&
         (temperature < kGreedyBelow || temperature == 1.0f);
}

struct RowScan {
  uint64_t best;  // The key of the largest value, where all are finite.
  int num_nonfinite;
};

// Every thread sees its ids ascending, so the first of equals stays.
__device__ RowScan ScanRow(SampleSmem& smem, const float* values, int vocab_size) {
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

// Step 2 of the contract and the temperature.
__device__ void AdjustLogits(const SampleParams& params, int row, float* z) {
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

// The lowest key that top_k keeps.
__device__ uint64_t CutToTopK(SampleSmem& smem, const float* z, int vocab_size, float max,
                              int top_k) {
  Walk(smem, z, vocab_size, max, [&](int index, uint64_t key, float) {
    smem.key = key;
    return index + 1 == top_k;
  });
  const uint64_t lowest = smem.key;
  __syncthreads();
  return lowest;
}

// A key at or below the lowest that top_p and min_p keep, above the next one, given what top_k
// keeps.
__device__ uint64_t CutTail(SampleSmem& smem, const float* z, int vocab_size, float max,
                            uint64_t lowest, float top_p, float min_p) {
  float target = INFINITY;
  if (top_p < 1.0f) target = top_p * SumOfWeights(smem, z, vocab_size, max, lowest);
  if (threadIdx.x == 0) {
    smem.running = 0.0f;
    smem.key = lowest;
  }
  Walk(smem, z, vocab_size, max, [&](int index, uint64_t key, float weight) {
    if (key < lowest) return true;
    if (index > 0 && (smem.running >= target || weight < min_p)) {
      smem.key = key + 1;
      return true;
    }
    smem.running += weight;
    return false;
  });
  lowest = smem.key;
  __syncthreads();
  return lowest;
}

// Step 3 of the contract; `best` is the key of the largest of z.
__device__ int ChooseToken(SampleSmem& smem, const SampleParams& params, int row, const float* z,
                           uint64_t best) {
  const int vocab_size = params.vocab_size;
  if (params.temperature[row] < kGreedyBelow) return IdOf(best);

  const float max = ValueOf(best);
  uint64_t lowest = 0;  // Keys at or above it are kept.
  const int top_k = params.top_k[row];
  if (top_k > 0 && top_k < vocab_size) lowest = CutToTopK(smem, z, vocab_size, max, top_k);
  const float top_p = params.top_p[row];
  const float min_p = params.min_p[row];
  if (top_p < 1.0f || min_p > 0.0f) {
    lowest = CutTail(smem, z, vocab_size, max, lowest, top_p, min_p);
  }

  const float target = params.uniform[row] * SumOfWeights(smem, z, vocab_size, max, lowest);
  if (threadIdx.x == 0) smem.running = 0.0f;
  Walk(smem, z, vocab_size, max, [&](int, uint64_t key, float weight) {
    if (key < lowest) return true;
    smem.key = key;
    smem.running += weight;
    return smem.running > target;
  });
  const int chosen = IdOf(smem.key);
  __syncthreads();
  return chosen;
}

__device__ void WriteTop(SampleSmem& smem, const SampleParams& params, int row, const float* raw,
                         float max, float log_sum) {
  int32_t* ids = params.top_ids + row * params.top_ids_stride;
  float* logprobs = params.top_logprobs + row * params.top_logprobs_stride;
  uint64_t bound = kAboveAll;
  for (int num_written = 0; num_written < params.num_top;) {
    const int num_in_chunk = NextChunk(smem, raw, params.vocab_size, bound);
    const int num_wanted = min(num_in_chunk, params.num_top - num_written);
    for (int i = threadIdx.x; i < num_wanted; i += kThreads) {
      const int id = IdOf(smem.chunk[i]);
      ids[num_written + i] = id;
      logprobs[num_written + i] = (raw[id] - max) - log_sum;
    }
    bound = smem.chunk[num_in_chunk - 1];
    num_written += num_wanted;
    __syncthreads();
  }
}

__device__ void WriteFailure(const SampleParams& params, int row, int num_nonfinite) {
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0) {
    params.token[row] = -1;
    params.logprob[row] = 0.0f;
    params.nonfinite_count[row] = num_nonfinite;
  }
  if (i < params.num_top) {
    params.top_ids[row * params.top_ids_stride + i] = -1;
    params.top_logprobs[row * params.top_logprobs_stride + i] = 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads)
    SampleKernel(const __grid_constant__ SampleParams params) {
  __shared__ SampleSmem smem;
  const int row = static_cast<int>(blockIdx.x);
  const float* raw = params.logits + row * params.logits_stride;

  ReleaseNextGrids();
  WaitForPreviousGrids();
  const RowScan raw_scan = ScanRow(smem, raw, params.vocab_size);
  if (raw_scan.num_nonfinite > 0) {
    WriteFailure(params, row, raw_scan.num_nonfinite);
    return;
  }
  const float* z = raw;
  RowScan scan = raw_scan;
  if (!IsUnadjusted(params, row)) {
    float* adjusted = params.scratch + int64_t{row} * params.vocab_size;
    AdjustLogits(params, row, adjusted);
    z = adjusted;
    scan = ScanRow(smem, z, params.vocab_size);
  }
  if (scan.num_nonfinite > 0) {
    WriteFailure(params, row, scan.num_nonfinite);
    return;
  }

  const float max = ValueOf(raw_scan.best);
  const float log_sum = logf(SumOfWeights(smem, raw, params.vocab_size, max, 0));
  const int token = ChooseToken(smem, params, row, z, scan.best);
  if (threadIdx.x == 0) {
    params.token[row] = token;
    params.logprob[row] = (raw[token] - max) - log_sum;
    params.nonfinite_count[row] = 0;
  }
  if (params.num_top > 0) WriteTop(smem, params, row, raw, max, log_sum);
}

}  // namespace

Status Sample(const SampleArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const int num_rows = args.logits.dim(0);
  const int vocab_size = args.logits.dim(1);
  if (num_rows == 0) return Status::Ok();
  if (vocab_size > kIdsMax) {
    return Unimplemented(StrCat("sample: vocab_size is ", vocab_size, ", expected at most ",
                                kIdsMax, " on a cuda device"));
  }
  if (!args.scratch.is_present()) {
    return InvalidArgument("sample: scratch is absent, expected [num_rows, vocab_size] f32");
  }
  const bool has_top = args.top_ids.is_present();
  const SampleParams params{.token = args.token.as<int32_t>(),
                            .logprob = args.logprob.as<float>(),
                            .nonfinite_count = args.nonfinite_count.as<int32_t>(),
                            .top_ids = has_top ? args.top_ids.as<int32_t>() : nullptr,
                            .top_logprobs = has_top ? args.top_logprobs.as<float>() : nullptr,
                            .top_ids_stride = has_top ? args.top_ids.stride(0) : 0,
                            .top_logprobs_stride = has_top ? args.top_logprobs.stride(0) : 0,
                            .num_top = has_top ? args.top_ids.dim(1) : 0,
                            .logits = args.logits.as<float>(),
                            .logits_stride = args.logits.stride(0),
                            .vocab_size = vocab_size,
                            .scratch = args.scratch.as<float>(),
                            .temperature = args.temperature.as<float>(),
                            .top_k = args.top_k.as<int32_t>(),
                            .top_p = args.top_p.as<float>(),
                            .min_p = args.min_p.as<float>(),
                            .repetition_penalty = args.repetition_penalty.as<float>(),
                            .presence_penalty = args.presence_penalty.as<float>(),
                            .frequency_penalty = args.frequency_penalty.as<float>(),
                            .uniform = args.uniform.as<float>(),
                            .history_start = args.history_start.as<int32_t>(),
                            .history_ids = args.history_ids.as<int32_t>(),
                            .history_counts = args.history_counts.as<int32_t>(),
                            .bias_start = args.bias_start.as<int32_t>(),
                            .bias_ids = args.bias_ids.as<int32_t>(),
                            .bias_values = args.bias_values.as<float>()};
  return launcher.Launch("sample",
                         {.grid = dim3(static_cast<unsigned>(num_rows)), .num_threads = kThreads},
                         SampleKernel, params);
}

}  // namespace comet::cuda
