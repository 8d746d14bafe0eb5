#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/device/round_to_byte.cuh"
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
// gives the same.
__device__ __forceinline__ uint32_t QuantizeToByte(float x, float inverse, float limit) {
  return RoundToByte(fminf(fmaxf(x * inverse, -limit), limit));
}

// The low bytes of four words.
__device__ __forceinline__ uint32_t PackLowBytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
}

// Writes a row's codes, chunk by chunk, given the CTA's maxima; each thread has one.
class RowCodes {
 public:
  __device__ __forceinline__ RowCodes(const RowOutputParams& params, const RowMaxima& maxima,
                                      int64_t row_idx)
      : params_(params), row_(ChooseScale(params, maxima)), row_idx_(row_idx) {
    inverse_int4_ = 1.0f / row_.scale;
    inverse_int8_ = 1.0f / (row_.scale * PowerOfTwo(row_.exponent));
  }

  // Channels [k, k + kChunk); those past the row's end are zeros.
  __device__ __forceinline__ void Write(const float (&x)[kChunk], int k) {
    constexpr int kOnes = 0x01010101;
    const bool is_int4 = k < params_.num_int4;
    const float inverse = is_int4 ? inverse_int4_ : inverse_int8_;
    const float limit = is_int4 ? params_.int4_limit : 127.0f;
    uint32_t q[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) q[i] = QuantizeToByte(x[i], inverse, limit);
    uint2 packed = {PackLowBytes(q[0], q[1], q[2], q[3]), PackLowBytes(q[4], q[5], q[6], q[7])};
    if (!row_.is_finite) packed = {0u, 0u};
    int8_t* const row = params_.codes + row_idx_ * params_.row_stride;
    int8_t* const codes = row + k;
    if (is_int4 && params_.packs_int4) {
      WritePacked(packed, row + PackedInt4Of(k).byte);
    } else if (params_.has_vector_stores) {
      *reinterpret_cast<uint2*>(codes) = packed;
    } else {
      for (int i = 0; i < min(kChunk, params_.num_channels - k); ++i) {
        const uint32_t word = i < 4 ? packed.x : packed.y;
        codes[i] = static_cast<int8_t>(word >> (8 * (i % 4)));
      }
    }
    const int sum =
        __dp4a(static_cast<int>(packed.x), kOnes, __dp4a(static_cast<int>(packed.y), kOnes, 0));
    (is_int4 ? sum_int4_ : sum_int8_) += sum;
  }

  // Eight codes of four bits, one word (PackedInt4Of()).
  __device__ __forceinline__ void WritePacked(const uint2& codes, int8_t* place) const {
    const uint32_t word = (codes.x & 0x0f0f0f0fu) | (codes.y & 0x0f0f0f0fu) << 4;
    if (params_.has_vector_stores) {
      *reinterpret_cast<uint32_t*>(place) = word;
    } else {
      for (int i = 0; i < 4; ++i) place[i] = static_cast<int8_t>(word >> (8 * i));
    }
  }

  // Writes the row's scale, exponent and code sums. Every thread of the CTA calls it.
  template <int kThreads>
  __device__ __forceinline__ void Finish(RowOutputSmem& smem) {
    const int2 sums = SumOfCta<kThreads>(smem);
    if (threadIdx.x == 0) WriteScalars(sums);
  }

  // {INT8 region, INT4 region} of the codes that the CTA wrote, for warp 0. Every thread calls it.
  template <int kThreads>
  __device__ __forceinline__ int2 SumOfCta(RowOutputSmem& smem) {
    constexpr int kNumWarps = kThreads / 32;
    const int lane_idx = threadIdx.x % 32;
    const int warp_idx = threadIdx.x / 32;
    sum_int4_ = __reduce_add_sync(~0u, sum_int4_);
    sum_int8_ = __reduce_add_sync(~0u, sum_int8_);
    if (lane_idx == 0) {
      smem.sum_int4[warp_idx] = sum_int4_;
      smem.sum_int8[warp_idx] = sum_int8_;
    }
    __syncthreads();
    if (warp_idx != 0) return make_int2(0, 0);
    return make_int2(__reduce_add_sync(~0u, lane_idx < kNumWarps ? smem.sum_int8[lane_idx] : 0),
                     __reduce_add_sync(~0u, lane_idx < kNumWarps ? smem.sum_int4[lane_idx] : 0));
  }

  __device__ __forceinline__ void WriteScalars(int2 code_sum) const {
    params_.scale[row_idx_] = row_.is_finite ? row_.scale : __int_as_float(0x7fc00000);
    params_.exponent[row_idx_] = row_.exponent;
    params_.code_sum[2 * row_idx_] = code_sum.x;
    params_.code_sum[2 * row_idx_ + 1] = code_sum.y;
  }

 private:
  const RowOutputParams& params_;
  const RowScale row_;
  const int64_t row_idx_;
  float inverse_int4_;
  float inverse_int8_;
  int sum_int4_ = 0;
  int sum_int8_ = 0;
};

// Quantises the row in smem_row, of which each thread reads the chunks it stored or which a barrier
// has passed since.
template <int kThreads>
__device__ __forceinline__ void WriteCodes(const RowOutputParams& params, const float* smem_row,
                                           const RowMaxima& maxima, int64_t row_idx,
                                           RowOutputSmem& smem) {
  RowCodes codes(params, maxima, row_idx);
  for (int k = kChunk * threadIdx.x; k < params.num_channels; k += kChunk * kThreads) {
    float x[kChunk];
    LoadChunk(x, smem_row, k);
    codes.Write(x, k);
  }
  codes.Finish<kThreads>(smem);
}

// One rounding of a chunk's values.
__device__ __forceinline__ void WriteChunkValues(const RowOutputParams& params,
                                                 const float (&x)[kChunk], int k, int64_t row_idx) {
  const auto store = [&](auto* values) {
    if (params.has_vector_stores) {
      StoreFloats<true>(x, values + row_idx * params.row_stride, k, params.num_channels);
    } else {
      StoreFloats<false>(x, values + row_idx * params.row_stride, k, params.num_channels);
    }
  };
  params.is_f16 ? store(static_cast<__half*>(params.values))
                : store(static_cast<float*>(params.values));
}

// kFloat. The same condition on smem_row.
template <int kThreads>
__device__ __forceinline__ void WriteValues(const RowOutputParams& params, const float* smem_row,
                                            int64_t row_idx) {
  for (int k = kChunk * threadIdx.x; k < params.num_channels; k += kChunk * kThreads) {
    float x[kChunk];
    LoadChunk(x, smem_row, k);
    WriteChunkValues(params, x, k, row_idx);
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

// The order of the channels, kept in registers by a CTA that writes one row after another: thread t
// writes the chunks t, t + kThreads ... kVectors access only. From global memory the indices of a
// row of 4096 are 16 KB, more than its codes.
template <int kThreads, int kChunks>
class HeldGather {
 public:
  __device__ __forceinline__ HeldGather(const int32_t* gather, int num_channels) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int k = ChannelOf(c);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sources_[c].values[i] = 0;
      if (k < num_channels) {
        sources_[c] = *reinterpret_cast<const Vec<int32_t, kChunk>*>(gather + k);
      }
    }
  }

  // Writes a row from smem_x, which holds it in plain order; a barrier lies between the last store
  // and this. smem_x may be stored to again when it returns.
  __device__ __forceinline__ void Write(const RowOutputParams& params, const float* smem_x,
                                        int64_t row_idx, RowOutputSmem& smem) const {
    float x[kChunks][kChunk];
    RowMaxima maxima;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const bool is_inside = ChannelOf(c) < params.num_channels;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) x[c][i] = is_inside ? smem_x[sources_[c].values[i]] : 0.0f;
      maxima.Add(x[c], ChannelOf(c) < params.num_int4);
    }
    maxima = ReduceMaxima<kThreads>(maxima, smem);
    if (params.codes == nullptr) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (ChannelOf(c) < params.num_channels) {
          WriteChunkValues(params, x[c], ChannelOf(c), row_idx);
        }
      }
      return;
    }
    RowCodes codes(params, maxima, row_idx);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (ChannelOf(c) < params.num_channels) codes.Write(x[c], ChannelOf(c));
    }
    codes.Finish<kThreads>(smem);
  }

 private:
  static __device__ __forceinline__ int ChannelOf(int chunk) {
    return kChunk * (static_cast<int>(threadIdx.x) + chunk * kThreads);
  }

  Vec<int32_t, kChunk> sources_[kChunks];
};

}  // namespace comet::cuda
