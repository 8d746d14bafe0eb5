#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/row_launch.h"

// How a CTA writes one token's row of a LinearInput (kernels/ops/linear_input.h). The row lies in
// shared memory in groups of four channels; group g is at Slot(g), so that neighbouring threads
// meet no bank conflict with four channels a thread nor with eight.
namespace comet::cuda {

inline constexpr int kWarpsMax = 32;

struct RowOutputSmem {
  uint32_t max_int4[kWarpsMax];
  uint32_t max_int8[kWarpsMax];
  int sum_int4[kWarpsMax];
  int sum_int8[kWarpsMax];
};

__device__ __forceinline__ int Slot(int group) { return group ^ ((group >> 3) & 1); }
__device__ __forceinline__ int SlotOfChannel(int channel) {
  return 4 * Slot(channel >> 2) + (channel & 3);
}

__device__ __forceinline__ void StoreChunk(const float (&x)[kChunk], float* smem_row, int channel) {
  const int group = channel >> 2;
  float4* groups = reinterpret_cast<float4*>(smem_row);
  groups[Slot(group)] = make_float4(x[0], x[1], x[2], x[3]);
  groups[Slot(group + 1)] = make_float4(x[4], x[5], x[6], x[7]);
}

__device__ __forceinline__ void LoadChunk(float (&x)[kChunk], const float* smem_row, int channel) {
  const int group = channel >> 2;
  const float4* groups = reinterpret_cast<const float4*>(smem_row);
  const float4 low = groups[Slot(group)];
  const float4 high = groups[Slot(group + 1)];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

// The largest magnitudes a thread has seen, as the bits of the float: ordered as numbers are, with
// infinity and NaN above all others.
struct RowMaxima {
  uint32_t int4 = 0;
  uint32_t int8 = 0;

  __device__ __forceinline__ void Add(float x, bool is_int4) {
    const uint32_t bits = __float_as_uint(x) & 0x7fffffffu;
    int4 = max(int4, is_int4 ? bits : 0u);
    int8 = max(int8, is_int4 ? 0u : bits);
  }
  // One region each: num_int4 is a multiple of the chunk.
  __device__ __forceinline__ void Add(const float (&x)[kChunk], bool is_int4) {
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) largest = max(largest, __float_as_uint(x[i]) & 0x7fffffffu);
    int4 = max(int4, is_int4 ? largest : 0u);
    int8 = max(int8, is_int4 ? 0u : largest);
  }
};

// The CTA's maxima. Also a barrier: what any thread stored before is visible after.
template <int kThreads>
__device__ __forceinline__ RowMaxima ReduceMaxima(RowMaxima maxima, RowOutputSmem& smem) {
  constexpr int kNumWarps = kThreads / 32;
  const int lane_idx = threadIdx.x % 32;
  const int warp_idx = threadIdx.x / 32;
  maxima.int4 = __reduce_max_sync(~0u, maxima.int4);
  maxima.int8 = __reduce_max_sync(~0u, maxima.int8);
  if (lane_idx == 0) {
    smem.max_int4[warp_idx] = maxima.int4;
    smem.max_int8[warp_idx] = maxima.int8;
  }
  __syncthreads();
  maxima.int4 = __reduce_max_sync(~0u, smem.max_int4[lane_idx % kNumWarps]);
  maxima.int8 = __reduce_max_sync(~0u, smem.max_int8[lane_idx % kNumWarps]);
  return maxima;
}

struct RowScale {
  float scale = 1.0f;
  int exponent = 0;
  bool is_finite = true;
};

__device__ __forceinline__ float PowerOfTwo(int exponent) {
  return __int_as_float((exponent + 127) << 23);
}

__device__ __forceinline__ RowScale ChooseScale(const RowOutputParams& params,
                                                const RowMaxima& maxima) {
  constexpr uint32_t kInfinityBits = 0x7f800000u;
  constexpr float kScaleMin = 0x1p-100f;
  RowScale row;
  row.is_finite = max(maxima.int4, maxima.int8) < kInfinityBits;
  if (!row.is_finite) return row;
  const float max_int4 = __uint_as_float(maxima.int4);
  const float max_int8 = __uint_as_float(maxima.int8);
  if (max_int4 > 0.0f) {
    row.scale = fmaxf((params.clip * max_int4) / params.int4_limit, kScaleMin);
  } else if (max_int8 > 0.0f) {
    row.scale = fmaxf(max_int8 / 127.0f, kScaleMin);
  }
  const auto spans_int8 = [&] {
    return max_int8 <= 127.0f * (row.scale * PowerOfTwo(row.exponent));
  };
  while (row.exponent < params.exponent_max && !spans_int8()) ++row.exponent;
  if (!spans_int8()) row.scale = (max_int8 / 127.0f) * PowerOfTwo(-row.exponent);
  return row;
}

// clamp(round_half_even(x * inverse)) in the low byte. The limit is an integer, so clamping first
// gives the same; adding 1.5 * 2^23 rounds to it and leaves two's complement in the low bits.
__device__ __forceinline__ uint32_t QuantizeToByte(float x, float inverse, float limit) {
  constexpr float kRoundMagic = 0x1.8p+23f;
  return __float_as_uint(fminf(fmaxf(x * inverse, -limit), limit) + kRoundMagic);
}

// The low bytes of four words.
__device__ __forceinline__ uint32_t PackLowBytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
}

// Quantises the row in smem_row, of which each thread reads the chunks it stored or which a barrier
// has passed since, given the CTA's maxima.
template <int kThreads>
__device__ __forceinline__ void WriteCodes(const RowOutputParams& params, const float* smem_row,
                                           const RowMaxima& maxima, int64_t row_idx,
                                           RowOutputSmem& smem) {
  constexpr int kNumWarps = kThreads / 32;
  constexpr int kOnes = 0x01010101;
  const RowScale row = ChooseScale(params, maxima);
  const float inverse_int4 = 1.0f / row.scale;
  const float inverse_int8 = 1.0f / (row.scale * PowerOfTwo(row.exponent));
  int8_t* const codes = params.codes + row_idx * params.row_stride;

  int sum_int4 = 0;
  int sum_int8 = 0;
  for (int k = kChunk * threadIdx.x; k < params.num_channels; k += kChunk * kThreads) {
    const bool is_int4 = k < params.num_int4;
    const float inverse = is_int4 ? inverse_int4 : inverse_int8;
    const float limit = is_int4 ? params.int4_limit : 127.0f;
    float x[kChunk];
    LoadChunk(x, smem_row, k);
    uint32_t q[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) q[i] = QuantizeToByte(x[i], inverse, limit);
    uint2 packed = {PackLowBytes(q[0], q[1], q[2], q[3]), PackLowBytes(q[4], q[5], q[6], q[7])};
    if (!row.is_finite) packed = {0u, 0u};
    if (params.has_vector_stores) {
      *reinterpret_cast<uint2*>(codes + k) = packed;
    } else {
      // Channels past the end were stored as zeros, so the sums need no mask.
      for (int i = 0; i < min(kChunk, params.num_channels - k); ++i) {
        const uint32_t word = i < 4 ? packed.x : packed.y;
        codes[k + i] = static_cast<int8_t>(word >> (8 * (i % 4)));
      }
    }
    const int sum =
        __dp4a(static_cast<int>(packed.x), kOnes, __dp4a(static_cast<int>(packed.y), kOnes, 0));
    (is_int4 ? sum_int4 : sum_int8) += sum;
  }

  const int lane_idx = threadIdx.x % 32;
  const int warp_idx = threadIdx.x / 32;
  sum_int4 = __reduce_add_sync(~0u, sum_int4);
  sum_int8 = __reduce_add_sync(~0u, sum_int8);
  if (lane_idx == 0) {
    smem.sum_int4[warp_idx] = sum_int4;
    smem.sum_int8[warp_idx] = sum_int8;
  }
  __syncthreads();
  if (warp_idx != 0) return;
  sum_int4 = __reduce_add_sync(~0u, lane_idx < kNumWarps ? smem.sum_int4[lane_idx] : 0);
  sum_int8 = __reduce_add_sync(~0u, lane_idx < kNumWarps ? smem.sum_int8[lane_idx] : 0);
  if (lane_idx != 0) return;
  params.scale[row_idx] = row.is_finite ? row.scale : __int_as_float(0x7fc00000);
  params.exponent[row_idx] = row.exponent;
  params.code_sum[2 * row_idx] = sum_int8;
  params.code_sum[2 * row_idx + 1] = sum_int4;
}

// kFloat: one rounding of each value. The same condition on smem_row.
template <int kThreads>
__device__ __forceinline__ void WriteValues(const RowOutputParams& params, const float* smem_row,
                                            int64_t row_idx) {
  const int size = params.num_channels;
  for (int k = kChunk * threadIdx.x; k < size; k += kChunk * kThreads) {
    float x[kChunk];
    LoadChunk(x, smem_row, k);
    const auto store = [&](auto* values) {
      if (params.has_vector_stores) {
        StoreFloats<true>(x, values + row_idx * params.row_stride, k, size);
      } else {
        StoreFloats<false>(x, values + row_idx * params.row_stride, k, size);
      }
    };
    params.is_f16 ? store(static_cast<__half*>(params.values))
                  : store(static_cast<float*>(params.values));
  }
}

// Puts channels in the order of the layer that reads them and writes them: from smem_x (plain
// order) through smem_row, eight gathered channels a thread, or, where gather is null, from
// smem_row, which then holds the row already. Every thread of the CTA calls it; a barrier must lie
// between the last store to smem_x and it.
template <bool kVectors, int kThreads>
__device__ __forceinline__ void WriteGathered(const RowOutputParams& params, const int32_t* gather,
                                              const float* smem_x, float* smem_row,
                                              RowMaxima maxima, int64_t row_idx,
                                              RowOutputSmem& smem) {
  const int size = params.num_channels;
  if (gather != nullptr) {
    for (int k = kChunk * threadIdx.x; k < size; k += kChunk * kThreads) {
      float x[kChunk];
      if constexpr (kVectors) {
        const Vec<int32_t, kChunk> sources =
            *reinterpret_cast<const Vec<int32_t, kChunk>*>(gather + k);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) x[i] = smem_x[sources.values[i]];
      } else {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) x[i] = k + i < size ? smem_x[gather[k + i]] : 0.0f;
      }
      maxima.Add(x, k < params.num_int4);
      StoreChunk(x, smem_row, k);
    }
  }
  if (params.codes == nullptr) {
    __syncthreads();
    WriteValues<kThreads>(params, smem_row, row_idx);
    return;
  }
  WriteCodes<kThreads>(params, smem_row, ReduceMaxima<kThreads>(maxima, smem), row_idx, smem);
}

}  // namespace comet::cuda
