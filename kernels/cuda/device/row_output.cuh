#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/device/ptx_maximum.cuh"
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
  int2 sums[kWarpsMax];  // INT8 region, INT4 region.
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
    float maximum = fabsf(x[0]);
#pragma unroll
    for (int i = 1; i < kChunk; ++i) maximum = ptx::MaximumOrNan(maximum, fabsf(x[i]));
    const uint32_t bits = __float_as_uint(maximum) & 0x7fffffffu;
    int4 = max(int4, is_int4 ? bits : 0u);
    int8 = max(int8, is_int4 ? 0u : bits);
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

// For whole warps that ask for one row.
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
  const auto spans_int8 = [&](int exponent) {
    return max_int8 <= 127.0f * (row.scale * PowerOfTwo(exponent));
  };
  // Each lane tries one exponent.
  const int lane_idx = static_cast<int>(threadIdx.x) % 32;
  const bool is_enough = lane_idx >= params.exponent_max || spans_int8(lane_idx);
  row.exponent = __ffs(static_cast<int>(__ballot_sync(~0u, is_enough))) - 1;
  if (!spans_int8(row.exponent)) row.scale = (max_int8 / 127.0f) * PowerOfTwo(-row.exponent);
  return row;
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
      : params_(params),
        row_(ChooseScale(params, maxima)),
        row_idx_(row_idx),
        codes_(params.codes + row_idx * params.row_stride) {
    inverse_int4_ = 1.0f / row_.scale;
    inverse_int8_ = 1.0f / (row_.scale * PowerOfTwo(row_.exponent));
    ptx::Forget(inverse_int4_);  // Else each chunk divides anew.
    ptx::Forget(inverse_int8_);
  }

  // Channels [k, k + kChunk), of which those past the row's end are zeros. kVectors: the row has
  // vector stores.
  template <bool kVectors>
  __device__ __forceinline__ void Write(const float (&x)[kChunk], int k) {
    Store<kVectors>(Quantize(x, k), k);
  }

  // Their codes, which count.
  __device__ __forceinline__ uint2 Quantize(const float (&x)[kChunk], int k) {
    constexpr int kOnes = 0x01010101;
    const bool is_int4 = k < params_.num_int4;
    const float inverse = is_int4 ? inverse_int4_ : inverse_int8_;
    float scaled[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) scaled[i] = x[i] * inverse;
    // Without a clip, |x| * inverse passes the limit by some roundings at most. The limit is an
    // integer, so clamping before rounding gives the same.
    if (is_int4 && params_.clip < 1.0f) {
      const float limit = params_.int4_limit;
#pragma unroll
      for (float& value : scaled) value = fminf(fmaxf(value, -limit), limit);
    }
    uint32_t q[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) q[i] = RoundToByte(scaled[i]);
    uint2 packed = {PackLowBytes(q[0], q[1], q[2], q[3]), PackLowBytes(q[4], q[5], q[6], q[7])};
    if (!row_.is_finite) packed = {0u, 0u};
    const int sum =
        __dp4a(static_cast<int>(packed.x), kOnes, __dp4a(static_cast<int>(packed.y), kOnes, 0));
    (is_int4 ? sum_int4_ : sum_int8_) += sum;
    return packed;
  }

  template <bool kVectors>
  __device__ __forceinline__ void Store(const uint2& packed, int k) const {
    if (params_.packs_int4 && k < params_.num_int4) {
      StorePacked<kVectors>(packed, codes_ + PackedInt4Of(k).byte);
    } else if (kVectors || params_.has_vector_stores) {
      *reinterpret_cast<uint2*>(codes_ + k) = packed;
    } else {
      for (int i = 0; i < min(kChunk, params_.num_channels - k); ++i) {
        const uint32_t word = i < 4 ? packed.x : packed.y;
        codes_[k + i] = static_cast<int8_t>(word >> (8 * (i % 4)));
      }
    }
  }

  // Writes the row's scale, exponent and code sums. Every thread of the CTA calls it.
  template <int kThreads>
  __device__ __forceinline__ void Finish(RowOutputSmem& smem) {
    const int2 sums = SumOfCta<kThreads>(smem);
    if (threadIdx.x == 0) WriteScalars(sums);
  }

  // {INT8 region, INT4 region} of the codes that the warp wrote, for each of its threads.
  __device__ __forceinline__ int2 SumOfWarp() const {
    return make_int2(__reduce_add_sync(~0u, sum_int8_), __reduce_add_sync(~0u, sum_int4_));
  }

  // The same of the CTA, for warp 0. Every thread calls it.
  template <int kThreads>
  __device__ __forceinline__ int2 SumOfCta(RowOutputSmem& smem) const {
    constexpr int kNumWarps = kThreads / 32;
    const int lane_idx = threadIdx.x % 32;
    const int warp_idx = threadIdx.x / 32;
    const int2 sums = SumOfWarp();
    if (lane_idx == 0) smem.sums[warp_idx] = sums;
    __syncthreads();
    if (warp_idx != 0) return make_int2(0, 0);
    const int2 partial = lane_idx < kNumWarps ? smem.sums[lane_idx] : make_int2(0, 0);
    return make_int2(__reduce_add_sync(~0u, partial.x), __reduce_add_sync(~0u, partial.y));
  }

  __device__ __forceinline__ void WriteScalars(int2 code_sum) const {
    WriteScale();
    WriteCodeSum(params_, row_idx_, code_sum);
  }
  __device__ __forceinline__ void WriteScale() const {
    params_.scale[row_idx_] = row_.is_finite ? row_.scale : __int_as_float(0x7fc00000);
    params_.exponent[row_idx_] = row_.exponent;
  }
  static __device__ __forceinline__ void WriteCodeSum(const RowOutputParams& params,
                                                      int64_t row_idx, int2 code_sum) {
    params.code_sum[2 * row_idx] = code_sum.x;
    params.code_sum[2 * row_idx + 1] = code_sum.y;
  }

 private:
  // Eight codes of four bits, one word (PackedInt4Of()).
  template <bool kVectors>
  __device__ __forceinline__ void StorePacked(const uint2& codes, int8_t* place) const {
    const uint32_t word = (codes.x & 0x0f0f0f0fu) | (codes.y & 0x0f0f0f0fu) << 4;
    if (kVectors || params_.has_vector_stores) {
      *reinterpret_cast<uint32_t*>(place) = word;
    } else {
      for (int i = 0; i < 4; ++i) place[i] = static_cast<int8_t>(word >> (8 * i));
    }
  }

  const RowOutputParams& params_;
  const RowScale row_;
  const int64_t row_idx_;
  int8_t* const codes_;
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
    codes.Write</*kVectors=*/false>(x, k);
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

}  // namespace comet::cuda
