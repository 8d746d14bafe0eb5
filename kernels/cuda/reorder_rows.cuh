#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>

#include "kernels/base/exact_math.h"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/row_output.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"

// rms_norm (kNorm) and gather: rows of channels that are put in another order and written.
//
// Mapping  Codes of rows of up to 8192 channels in vectors: ReorderRowsKernel, 128 or 256 threads a
//          row, which walk from row to row. All else: a CTA a row (ReorderRowKernel). For the sum,
//          thread t of a row owns the lanes kLanes * t ... of the contract's 1024 and adds the
//          channels of each in turn; the tree runs over a thread's lanes, the lanes of a warp and
//          the warps.
// Traffic  num_rows * K * (bytes of x + 1) plus 4 K of weights and of gather, which stay in L2.
// Limits   16-byte instructions where every row and vector is aligned to 16 bytes and K is a
//          multiple of 8; otherwise ReorderRowKernel moves single elements.
namespace comet::cuda {

struct ReorderParams {
  RowOutputParams out;
  const void* x = nullptr;
  int64_t x_row_stride = 0;
  const int32_t* gather = nullptr;  // Null: as they are.
  // Of rms_norm alone.
  const float* weight = nullptr;
  const int32_t* rows = nullptr;
  float epsilon = 0.0f;
};

// A row's factor, given the sum of its squares.
__device__ __forceinline__ float InverseRms(float sum, const ReorderParams& params) {
  const float mean = sum / static_cast<float>(params.out.num_channels);
  return 1.0f / sqrtf(mean + params.epsilon);
}

template <typename T>
__device__ __forceinline__ const T* RowOf(const ReorderParams& params, int64_t row_idx) {
  const int64_t token_idx = params.rows != nullptr ? params.rows[row_idx] : row_idx;
  return static_cast<const T*>(params.x) + token_idx * params.x_row_stride;
}

// The sum of a warp's lanes, adjacent ones in pairs, for each of its threads.
template <int kLanes>
__device__ __forceinline__ float SumOfWarp(float (&lanes)[kLanes]) {
#pragma unroll
  for (int count = kLanes / 2; count >= 1; count /= 2) {
#pragma unroll
    for (int i = 0; i < count; ++i) lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
  }
  float sum = lanes[0];
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    sum += __shfl_xor_sync(~0u, sum, distance);
  }
  return sum;
}

// The pairwise sum of the warps' sums, which every thread reads.
template <int kWarps>
__device__ __forceinline__ float SumOfWarps(const float* smem_sums) {
  float sums[kWarps];
  LoadFloats<true>(sums, smem_sums, 0, kWarps);
#pragma unroll
  for (int count = kWarps / 2; count >= 1; count /= 2) {
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  }
  return sums[0];
}

template <typename T, int kThreads, bool kVectors, bool kNorm>
__global__ void __launch_bounds__(kThreads)
    ReorderRowKernel(const __grid_constant__ ReorderParams params) {
  constexpr int kLanes = kSumLanes / kThreads;
  constexpr int kBatch = 4;  // Loads in flight of a thread.
  extern __shared__ float4 smem[];
  __shared__ RowOutputSmem smem_output;
  __shared__ alignas(16) float smem_sums[kThreads / 32];
  const int size = params.out.num_channels;
  const int padded_size = AlignUp(size, kChunk);
  const bool has_gather = params.gather != nullptr;
  float* const smem_row = reinterpret_cast<float*>(smem);
  float* const smem_x = smem_row + padded_size;  // Where channels are gathered.
  const int first_h = kLanes * static_cast<int>(threadIdx.x);
  const int64_t row_idx = blockIdx.x;
  // A thread's lanes are neighbours in either place.
  const auto place_of = [&](int h) {
    return has_gather ? smem_x + h : smem_row + SlotOfChannel(h);
  };

  ReleaseNextGrids();
  WaitForPreviousGrids();
  const T* const x_row = RowOf<T>(params, row_idx);
  float lanes[kLanes] = {};
  for (int base = first_h; base < padded_size; base += kBatch * kSumLanes) {
    float x[kBatch][kLanes];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      LoadFloats<kVectors>(x[i], x_row, base + i * kSumLanes, size);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int j = 0; j < kLanes; ++j) lanes[j] += x[i][j] * x[i][j];
      const int h = base + i * kSumLanes;
      if (h < padded_size) StoreFloats<true>(x[i], place_of(h), 0, kLanes);
    }
  }
  float inverse_rms = 1.0f;
  if constexpr (kNorm) {
    const float sum = SumOfWarp(lanes);
    if (threadIdx.x % 32 == 0) smem_sums[threadIdx.x / 32] = sum;
    __syncthreads();
    inverse_rms = InverseRms(SumOfWarps<kThreads / 32>(smem_sums), params);
  }

  RowMaxima maxima;
  for (int h = first_h; h < padded_size; h += kSumLanes) {
    float x[kLanes];
    LoadFloats<true>(x, place_of(h), 0, kLanes);
    if constexpr (kNorm) {
      float weight[kLanes];
      LoadFloats<kVectors>(weight, params.weight, h, size);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) x[j] = (x[j] * inverse_rms) * weight[j];
      StoreFloats<true>(x, place_of(h), 0, kLanes);
    }
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      if (!has_gather && h + j < size) maxima.Add(x[j], h + j < params.out.num_int4);
    }
  }
  if (has_gather) __syncthreads();
  WriteGathered<kVectors, kThreads>(params.out, params.gather, smem_x, smem_row, maxima, row_idx,
                                    smem_output);
}

inline constexpr int kWalkThreads = 512;  // Of a CTA, one an SM.
inline constexpr int kHeldChunks = 4;     // Of a thread: 32 channels.

// What the threads of one row tell each other.
template <int kWarps>
struct alignas(16) ReorderGroupSmem {
  float sums[kWarps];
  uint32_t max_int4[kWarps];
  uint32_t max_int8[kWarps];
  int2 code_sums[2][kWarps];  // Of this row and of the one before.
};

// A CTA has kWalkThreads / kRowThreads groups of threads. Each takes row after row, with the
// weights and the order in registers, read before the grid ahead has ended, and has the next row's
// loads under way while it writes one. Groups have barriers of their own, so that while some wait
// others work: the chain of a row, three barriers long, is some four times its share of an SM.
template <int kRowThreads, bool kNorm>
__global__ void __launch_bounds__(kWalkThreads, 1)
    ReorderRowsKernel(const __grid_constant__ ReorderParams params, int num_rows) {
  using T = __half;
  using Stored = std::conditional_t<kNorm, float, T>;
  constexpr int kWarps = kRowThreads / 32;
  constexpr int kGroups = kWalkThreads / kRowThreads;
  constexpr int kLanes = kSumLanes / kRowThreads;
  constexpr int kRounds = kHeldChunks * kChunk / kLanes;
  extern __shared__ float4 smem[];
  __shared__ ReorderGroupSmem<kWarps> smem_groups[kGroups];
  const int size = params.out.num_channels;
  const int group_idx = static_cast<int>(threadIdx.x) / kRowThreads;
  const int thread_idx = static_cast<int>(threadIdx.x) % kRowThreads;
  const int warp_idx = thread_idx / 32;
  const bool is_first_lane = thread_idx % 32 == 0;
  ReorderGroupSmem<kWarps>& smem_group = smem_groups[group_idx];
  Stored* const smem_row = reinterpret_cast<Stored*>(smem) + group_idx * size;
  const int row_step = static_cast<int>(gridDim.x) * kGroups;
  const int first_h = kLanes * thread_idx;
  const auto channel_of = [&](int chunk) { return kChunk * (thread_idx + chunk * kRowThreads); };
  const auto value_at = [&](uint32_t byte_offset) {
    const char* const first = reinterpret_cast<const char*>(smem_row);
    return ToFloat(*reinterpret_cast<const Stored*>(first + byte_offset));
  };
  const auto sync_group = [&] { ptx::SyncThreads(1 + group_idx, kRowThreads); };

  ReleaseNextGrids();
  int row_idx = static_cast<int>(blockIdx.x) + group_idx * static_cast<int>(gridDim.x);
  if (row_idx >= num_rows) return;
  uint32_t sources[kHeldChunks][kChunk / 2];  // Byte offsets in smem_row, two a word.
#pragma unroll
  for (int c = 0; c < kHeldChunks; ++c) {
    Vec<int32_t, kChunk> order;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) order.values[i] = channel_of(c) + i;
    if (params.gather != nullptr && channel_of(c) < size) {
      order = *reinterpret_cast<const Vec<int32_t, kChunk>*>(params.gather + channel_of(c));
    }
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i) {
      const auto offset_of = [&](int at) {
        return static_cast<uint32_t>(order.values[at]) * static_cast<uint32_t>(sizeof(Stored));
      };
      sources[c][i] = offset_of(2 * i) | offset_of(2 * i + 1) << 16;
    }
  }
  float weight[kRounds][kLanes];
  if constexpr (kNorm) {
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      LoadFloats<true>(weight[i], params.weight, first_h + i * kSumLanes, size);
    }
  }
  PackedVec<T, kLanes> loaded[kRounds];
  const auto load_row = [&](int of_row) {
    const T* const x = RowOf<T>(params, of_row) + first_h;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      loaded[i] = LoadPacked<kLanes>(x, i * kSumLanes, size - first_h);
    }
  };

  WaitForPreviousGrids();
  load_row(row_idx);
  int previous_row_idx = -1;  // Whose code sums the warps have told, but nobody has written.
  int parity = 0;
  const auto write_previous_sums = [&] {
    if (thread_idx != 0 || previous_row_idx < 0) return;
    int2 sum = {0, 0};
#pragma unroll
    for (const int2& of_warp : smem_group.code_sums[parity ^ 1]) {
      sum.x += of_warp.x;
      sum.y += of_warp.y;
    }
    RowCodes::WriteCodeSum(params.out, previous_row_idx, sum);
  };
  for (; row_idx < num_rows; row_idx += row_step) {
    if constexpr (kNorm) {
      float x[kRounds][kLanes];
      float lanes[kLanes] = {};
#pragma unroll
      for (int i = 0; i < kRounds; ++i) {
        ToFloats(x[i], loaded[i]);
#pragma unroll
        for (int j = 0; j < kLanes; ++j) lanes[j] += x[i][j] * x[i][j];
      }
      const float warp_sum = SumOfWarp(lanes);
      if (is_first_lane) smem_group.sums[warp_idx] = warp_sum;
      sync_group();
      const float inverse_rms = InverseRms(SumOfWarps<kWarps>(smem_group.sums), params);
#pragma unroll
      for (int i = 0; i < kRounds; ++i) {
#pragma unroll
        for (int j = 0; j < kLanes; ++j) x[i][j] = (x[i][j] * inverse_rms) * weight[i][j];
        StoreFloats<true>(x[i], smem_row, first_h + i * kSumLanes, size);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kRounds; ++i) {
        const int h = first_h + i * kSumLanes;
        if (h < size) *reinterpret_cast<PackedVec<T, kLanes>*>(smem_row + h) = loaded[i];
      }
    }
    if (row_idx + row_step < num_rows) load_row(row_idx + row_step);
    sync_group();
    write_previous_sums();

    float x[kHeldChunks][kChunk];
    RowMaxima maxima;
#pragma unroll
    for (int c = 0; c < kHeldChunks; ++c) {
      const bool is_inside = channel_of(c) < size;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        // Else all 32 addresses would be kept, one a register.
        if (i % 2 == 0) ptx::Forget(sources[c][i / 2]);
        const uint32_t offset = i % 2 == 0 ? sources[c][i / 2] & 0xffffu : sources[c][i / 2] >> 16;
        x[c][i] = is_inside ? value_at(offset) : 0.0f;
      }
      maxima.Add(x[c], channel_of(c) < params.out.num_int4);
    }
    maxima.int4 = __reduce_max_sync(~0u, maxima.int4);
    maxima.int8 = __reduce_max_sync(~0u, maxima.int8);
    if (is_first_lane) {
      smem_group.max_int4[warp_idx] = maxima.int4;
      smem_group.max_int8[warp_idx] = maxima.int8;
    }
    sync_group();
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      maxima.int4 = max(maxima.int4, smem_group.max_int4[w]);
      maxima.int8 = max(maxima.int8, smem_group.max_int8[w]);
    }
    RowCodes codes(params.out, maxima, row_idx);
    if (thread_idx == 0) codes.WriteScale();
    uint2 packed[kHeldChunks];
#pragma unroll
    for (int c = 0; c < kHeldChunks; ++c) packed[c] = codes.Quantize(x[c], channel_of(c));
#pragma unroll
    for (int c = 0; c < kHeldChunks; ++c) {
      if (channel_of(c) < size) codes.Store</*kVectors=*/true>(packed[c], channel_of(c));
    }
    const int2 sums = codes.SumOfWarp();
    if (is_first_lane) smem_group.code_sums[parity][warp_idx] = sums;
    previous_row_idx = row_idx;
    parity ^= 1;
  }
  sync_group();
  write_previous_sums();
}

template <typename T, bool kNorm>
Status LaunchReorder(std::string_view op, const ReorderParams& params, bool has_aligned_rows,
                     int num_rows, Launcher& launcher) {
  const int num_channels = params.out.num_channels;
  const bool has_vectors = num_channels % kChunk == 0 && has_aligned_rows &&
                           IsAligned(params.weight, 16) && IsAligned(params.gather, 16);
  if constexpr (std::is_same_v<T, __half>) {
    const int row_threads = WalkRowThreads(num_channels);
    if (has_vectors && params.out.codes != nullptr && params.out.has_vector_stores &&
        row_threads > 0) {
      const int num_groups = kWalkThreads / row_threads;
      const LaunchShape shape{
          .grid = dim3(static_cast<unsigned>(std::min(num_rows, launcher.limits().num_sms))),
          .num_threads = kWalkThreads,
          .smem_bytes =
              int64_t{num_groups} * num_channels * BytesOf(kNorm ? DType::kF32 : DType::kF16)};
      return launcher.Launch(
          op, shape,
          row_threads == 128 ? ReorderRowsKernel<128, kNorm> : ReorderRowsKernel<256, kNorm>,
          params, num_rows);
    }
  }
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_rows)),
                          .num_threads = RowThreads(num_rows, launcher.limits().num_sms),
                          .smem_bytes = RowSmemBytes(num_channels, params.gather != nullptr)};
  const auto launch = [&]<int kThreads>() {
    return launcher.Launch(op, shape,
                           has_vectors ? ReorderRowKernel<T, kThreads, true, kNorm>
                                       : ReorderRowKernel<T, kThreads, false, kNorm>,
                           params);
  };
  return shape.num_threads == 512 ? launch.template operator()<512>()
                                  : launch.template operator()<256>();
}

}  // namespace comet::cuda
