// kernels/cuda/rope_append.cu
//
// Mapping  A CTA a token, or some a token while tokens are few; D / 8 lanes a head of q | k | v.
//          Lane l owns the channels 4l ... 4l + 3 and those D / 2 further, the pairs of a whole
//          rotation, and has kHeadsAtOnce heads' loads under way before it knows the position.
// Traffic  Reads qkv once, writes q once and the token's codes byte by byte: 2 x 2 bytes a channel
//          of q, k, v bound it. A decode step moves so little that launch and latency bound it.
// Limits   head_dim 64 or 128, 4 or 8 bits; see kernels/ops/rope_append.h. Loads and stores of four
//          channels where rows allow it; otherwise the same kernel moves single elements.

#include "kernels/cuda/rope_append.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "kernels/base/math.h"
#include "kernels/cuda/batch_search.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/ptx_maximum.cuh"
#include "kernels/cuda/device/ptx_reciprocal.cuh"
#include "kernels/cuda/device/round_to_byte.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/kv_page_layout.cuh"
#include "kernels/cuda/kv_support.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"

namespace comet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kCtasPerSm = 4;    // By their registers.
constexpr int kHeadsAtOnce = 3;  // The 48 heads of LLaMA-3-8B's q, k and v by one CTA.
constexpr int kQuad = 4;         // Neighbouring channels of a lane, twice.
constexpr int kLaneChannels = 2 * kQuad;

template <typename T>
struct RopeAppendParams {
  const T* qkv;
  int64_t qkv_row_stride;
  T* q_out;
  int64_t q_row_stride;
  const float* cos;
  const float* sin;
  int num_pairs;          // rotary_dim / 2
  bool has_vector_rows;   // Every quad of qkv and of q_out is aligned to its size;
  bool rotates_in_lanes;  // pairs are half a head apart, and the tables' quads aligned.
  uint8_t* pages;
  int64_t page_stride;
  int k_bits;
  int v_bits;
  DeviceBatch batch;
  int num_heads;
  int num_kv_heads;
  bool hadamard;
  float hadamard_factor;
};

// The lanes that share a head.
template <int kHeadDim>
struct HeadLanes {
  static constexpr int kCount = kHeadDim / kLaneChannels;
  int lane_idx;
  unsigned mask;  // Of the warp's lanes.

  __device__ __forceinline__ HeadLanes()
      : lane_idx(static_cast<int>(threadIdx.x) % kCount),
        mask(((1u << kCount) - 1) << (threadIdx.x % 32 / kCount * kCount)) {}

  // The first channel of this lane's quad in either half of the head.
  __device__ __forceinline__ int ChannelOf(int half) const {
    return kQuad * lane_idx + half * (kHeadDim / 2);
  }
};

// A lane's channels of a head on their way.
template <typename T>
struct HeadQuads {
  PackedVec<T, kQuad> half[2];
};

template <int kHeadDim, typename T>
__device__ __forceinline__ void StoreHead(const float (&x)[2][kQuad], T* head,
                                          const HeadLanes<kHeadDim>& lanes, bool has_vectors) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (has_vectors) {
      StoreFloats<true>(x[h], head, lanes.ChannelOf(h), kHeadDim);
    } else {
      StoreFloats<false>(x[h], head, lanes.ChannelOf(h), kHeadDim);
    }
  }
}

// The pairs lie in one lane.
__device__ __forceinline__ void RotateInLane(float (&x)[2][kQuad], const float (&cos)[kQuad],
                                             const float (&sin)[kQuad]) {
#pragma unroll
  for (int i = 0; i < kQuad; ++i) {
    const float a = x[0][i];
    const float b = x[1][i];
    x[0][i] = a * cos[i] - b * sin[i];
    x[1][i] = b * cos[i] + a * sin[i];
  }
}

// Any number of pairs; `row` is this head's shared memory.
template <int kHeadDim>
__device__ __forceinline__ void RotateThroughMemory(float (&x)[2][kQuad], float* row,
                                                    const float* cos, const float* sin,
                                                    int num_pairs,
                                                    const HeadLanes<kHeadDim>& lanes) {
#pragma unroll
  for (int h = 0; h < 2; ++h) StoreFloats<true>(x[h], row, lanes.ChannelOf(h), kHeadDim);
  __syncwarp(lanes.mask);
#pragma unroll 1
  for (int i = lanes.lane_idx; i < num_pairs; i += lanes.kCount) {
    const float a = row[i];
    const float b = row[i + num_pairs];
    row[i] = a * cos[i] - b * sin[i];
    row[i + num_pairs] = b * cos[i] + a * sin[i];
  }
  __syncwarp(lanes.mask);
#pragma unroll
  for (int h = 0; h < 2; ++h) LoadFloats<true>(x[h], row, lanes.ChannelOf(h), kHeadDim);
}

// Sylvester order: strides within a quad, then between lanes, then between the halves.
template <int kHeadDim>
__device__ __forceinline__ void ApplyHadamard(float (&x)[2][kQuad], float factor,
                                              const HeadLanes<kHeadDim>& lanes) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int stride = 1; stride < kQuad; stride *= 2) {
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
        if ((i & stride) != 0) continue;
        const float a = x[h][i];
        const float b = x[h][i + stride];
        x[h][i] = a + b;
        x[h][i + stride] = a - b;
      }
    }
#pragma unroll
    for (int stride = 1; stride < lanes.kCount; stride *= 2) {
      const float sign = (lanes.lane_idx & stride) != 0 ? -1.0f : 1.0f;
#pragma unroll
      for (float& value : x[h]) {
        // One rounding: the product is exact.
        value = __fmaf_rn(value, sign, __shfl_xor_sync(lanes.mask, value, stride));
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kQuad; ++i) {
    const float a = x[0][i];
    const float b = x[1][i];
    x[0][i] = (a + b) * factor;
    x[1][i] = (a - b) * factor;
  }
}

struct KvScale {
  __half scale;
  __half minimum;
};

template <int kHeadDim>
__device__ __forceinline__ KvScale ChooseScale(const float (&x)[2][kQuad], float levels,
                                               const HeadLanes<kHeadDim>& lanes) {
  float low = x[0][0];
  float high = x[0][0];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (const float value : x[h]) {
      low = ptx::MinimumOrNan(low, value);
      high = ptx::MaximumOrNan(high, value);
    }
  }
#pragma unroll
  for (int stride = lanes.kCount / 2; stride > 0; stride /= 2) {
    low = ptx::MinimumOrNan(low, __shfl_xor_sync(lanes.mask, low, stride));
    high = ptx::MaximumOrNan(high, __shfl_xor_sync(lanes.mask, high, stride));
  }
  const KvScale row{__float2half_rn((high - low) / levels), __float2half_rn(low)};
  if (isfinite(__half2float(row.scale)) && isfinite(__half2float(row.minimum))) return row;
  return {__float2half_rn(NAN), __float2half_rn(NAN)};
}

// Stores one token's key or value in a page's K or V codes of kBits, (s, m) at `scale_place`.
template <int kHeadDim, bool kIsKey, int kBits>
__device__ __forceinline__ void AppendCodes(const float (&x)[2][kQuad], uint8_t* side,
                                            uint8_t* scale_place, int token_idx,
                                            const HeadLanes<kHeadDim>& lanes) {
  constexpr float kLevels = (1 << kBits) - 1;
  constexpr KvPageLayout kLayout{kHeadDim, kBits, kBits};
  constexpr auto kByteOf = [](int of_token, int channel) {
    return kIsKey ? KeyCodePlace(kLayout, of_token, channel).byte
                  : ValueCodePlace(kLayout, of_token, channel).byte;
  };
  const KvScale row = ChooseScale(x, kLevels, lanes);
  const float scale = __half2float(row.scale);
  const float minimum = __half2float(row.minimum);
  const bool has_codes = scale > 0.0f;  // Neither zero nor NaN.
  float reciprocal = ptx::ApproximateReciprocal(scale);
  reciprocal = __fmaf_rn(reciprocal, __fmaf_rn(-scale, reciprocal, 1.0f), reciprocal);
  uint8_t* const first = side + kByteOf(token_idx, lanes.ChannelOf(0));
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    uint32_t codes[kQuad];
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      // The quotient has a division's bits: an fp16 divisor's 11 bits put every quotient of floats
      // 2^-12 ulp or more from where rounding changes, and this is within 2^-22 before its own.
      const float above = x[h][i] - minimum;
      const float near = above * reciprocal;
      const float quotient = __fmaf_rn(reciprocal, __fmaf_rn(-scale, near, above), near);
      codes[i] = has_codes ? RoundToByte(fminf(fmaxf(quotient, 0.0f), kLevels)) & 0xffu : 0u;
    }
    // Of two codes in a byte, the other channel is two further for keys, the next one for values.
    constexpr int kToHigh = kIsKey ? 2 : 1;
#pragma unroll
    for (int i = 0; i < kQuad * kBits / 8; ++i) {
      const int low = kBits == 8 || kIsKey ? i : 2 * i;
      // From a lane's first channel on, its others are equally far in every lane and token.
      const int distance = kByteOf(0, low + h * kHeadDim / 2);
      const uint32_t byte = kBits == 8 ? codes[low] : codes[low] | codes[low + kToHigh] << 4;
      first[distance] = static_cast<uint8_t>(byte);
    }
  }
  if (lanes.lane_idx == 0) {
    *reinterpret_cast<__half2*>(scale_place + ScalePlace(token_idx)) =
        __halves2half2(row.scale, row.minimum);
  }
}

template <int kHeadDim, bool kIsKey>
__device__ __forceinline__ void Append(const float (&x)[2][kQuad], const KvPageLayout& layout,
                                       uint8_t* head_page, int token_idx,
                                       const HeadLanes<kHeadDim>& lanes) {
  uint8_t* const side = head_page + (kIsKey ? 0 : layout.v_code_offset());
  uint8_t* const scales = head_page + (kIsKey ? layout.k_scale_offset() : layout.v_scale_offset());
  if ((kIsKey ? layout.k_bits : layout.v_bits) == 4) {
    AppendCodes<kHeadDim, kIsKey, 4>(x, side, scales, token_idx, lanes);
  } else {
    AppendCodes<kHeadDim, kIsKey, 8>(x, side, scales, token_idx, lanes);
  }
}

template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kThreads, kCtasPerSm)
    RopeAppendKernel(const __grid_constant__ RopeAppendParams<T> params) {
  using Lanes = HeadLanes<kHeadDim>;
  constexpr int kHeads = kThreads / Lanes::kCount;
  __shared__ alignas(16) float smem_rows[kHeads][kHeadDim];
  const Lanes lanes;
  const int head_of_cta = static_cast<int>(threadIdx.x) / Lanes::kCount;
  const int token_row = static_cast<int>(blockIdx.x);
  const int num_slots = params.num_heads + 2 * params.num_kv_heads;  // q | k | v
  const int first_slot = static_cast<int>(blockIdx.y) * kHeads + head_of_cta;
  const int slot_step = static_cast<int>(gridDim.y) * kHeads;
  const T* const qkv_row = params.qkv + token_row * params.qkv_row_stride;
  T* const q_row = params.q_out + token_row * params.q_row_stride;
  const KvPageLayout layout{kHeadDim, params.k_bits, params.v_bits};

  HeadQuads<T> loaded[kHeadsAtOnce];  // Of the next slots.
  const auto load_head = [&](int i, int slot_idx) {
    if (slot_idx >= num_slots || !params.has_vector_rows) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      loaded[i].half[h] =
          LoadPacked<kQuad>(qkv_row + slot_idx * kHeadDim, lanes.ChannelOf(h), kHeadDim);
    }
  };

  ReleaseNextGrids();
  WaitForPreviousGrids();
#pragma unroll
  for (int i = 0; i < kHeadsAtOnce; ++i) load_head(i, first_slot + i * slot_step);
  const TokenPlace token = FindToken(params.batch, token_row);
  const int page_id = params.batch.PageId(token.sequence_idx, token.position / kPageTokens);
  uint8_t* const page = params.pages + page_id * params.page_stride;
  const int token_idx = token.position % kPageTokens;
  const float* const cos_row = params.cos + int64_t{token.position} * params.num_pairs;
  const float* const sin_row = params.sin + int64_t{token.position} * params.num_pairs;
  float cos[kQuad] = {};
  float sin[kQuad] = {};
  if (params.rotates_in_lanes) {
    LoadFloats<true>(cos, cos_row, lanes.ChannelOf(0), params.num_pairs);
    LoadFloats<true>(sin, sin_row, lanes.ChannelOf(0), params.num_pairs);
  }

  const auto handle_head = [&](const HeadQuads<T>& quads, int slot_idx) {
    float x[2][kQuad];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (params.has_vector_rows) {
        ToFloats(x[h], quads.half[h]);
      } else {
        LoadFloats<false>(x[h], qkv_row + slot_idx * kHeadDim, lanes.ChannelOf(h), kHeadDim);
      }
    }
    const int kv_slot_idx = slot_idx - params.num_heads;
    if (kv_slot_idx >= params.num_kv_heads) {
      const int kv_head_idx = kv_slot_idx - params.num_kv_heads;
      Append<kHeadDim, false>(x, layout, page + int64_t{kv_head_idx} * layout.head_bytes(),
                              token_idx, lanes);
      return;
    }
    if (params.rotates_in_lanes) {
      RotateInLane(x, cos, sin);
    } else {
      RotateThroughMemory(x, smem_rows[head_of_cta], cos_row, sin_row, params.num_pairs, lanes);
    }
    if (params.hadamard) ApplyHadamard(x, params.hadamard_factor, lanes);
    if (kv_slot_idx < 0) {
      StoreHead(x, q_row + slot_idx * kHeadDim, lanes, params.has_vector_rows);
    } else {
      Append<kHeadDim, true>(x, layout, page + int64_t{kv_slot_idx} * layout.head_bytes(),
                             token_idx, lanes);
    }
  };
#pragma unroll 1
  for (int slot_idx = first_slot; slot_idx < num_slots; slot_idx += slot_step) {
    const HeadQuads<T> quads = loaded[0];
#pragma unroll
    for (int i = 1; i < kHeadsAtOnce; ++i) loaded[i - 1] = loaded[i];
    load_head(kHeadsAtOnce - 1, slot_idx + kHeadsAtOnce * slot_step);
    handle_head(quads, slot_idx);
  }
}

// CTAs of a token: as many as the device holds at once, at most one for each pass over the heads.
template <int kHeadDim>
unsigned CtasPerToken(int num_tokens, int num_slots, int num_sms) {
  constexpr int kHeads = kThreads / HeadLanes<kHeadDim>::kCount;
  return static_cast<unsigned>(
      std::clamp(num_sms * kCtasPerSm / num_tokens, 1, CeilDiv(num_slots, kHeads)));
}

template <typename T, int kHeadDim>
Status LaunchHeads(const RopeAppendArgs& args, Launcher& launcher) {
  const int num_pairs = args.cos.dim(1);
  constexpr int64_t kQuadBytes = kQuad * sizeof(T);
  const RopeAppendParams<T> params{
      .qkv = static_cast<const T*>(args.qkv.data()),
      .qkv_row_stride = args.qkv.stride(0),
      .q_out = static_cast<T*>(args.q_out.data()),
      .q_row_stride = args.q_out.stride(0),
      .cos = args.cos.as<float>(),
      .sin = args.sin.as<float>(),
      .num_pairs = num_pairs,
      .has_vector_rows =
          HasAlignedRows(args.qkv, kQuadBytes) && HasAlignedRows(args.q_out, kQuadBytes),
      .rotates_in_lanes = 2 * num_pairs == kHeadDim && IsAligned(args.cos.data(), 16) &&
                          IsAligned(args.sin.data(), 16),
      .pages = args.cache.pages.as<uint8_t>(),
      .page_stride = args.cache.pages.stride(0),
      .k_bits = args.cache.format.k_bits,
      .v_bits = args.cache.format.v_bits,
      .batch = MakeDeviceBatch(args.batch),
      .num_heads = args.num_heads,
      .num_kv_heads = args.cache.num_kv_heads,
      .hadamard = args.hadamard,
      .hadamard_factor = 1.0f / std::sqrt(static_cast<float>(kHeadDim))};
  const int num_tokens = args.batch.num_tokens;
  const int num_slots = args.num_heads + 2 * args.cache.num_kv_heads;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(num_tokens),
                   CtasPerToken<kHeadDim>(num_tokens, num_slots, launcher.limits().num_sms)),
      .num_threads = kThreads};
  return launcher.Launch("rope_append", shape, RopeAppendKernel<T, kHeadDim>, params);
}

}  // namespace

Status RopeAppend(const RopeAppendArgs& args, Launcher& launcher) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.batch.num_tokens == 0) return Status::Ok();
  const KvCacheView& cache = args.cache;
  COMET_RETURN_IF_ERROR(CheckKvKernels("rope_append", cache));
  COMET_RETURN_IF_ERROR(Validate("rope_append", cache,
                                 KvPageBytes(cache.format, cache.num_kv_heads, cache.head_dim)));
  const bool is_half = args.qkv.dtype() == DType::kF16;
  if (cache.head_dim == 64) {
    return is_half ? LaunchHeads<__half, 64>(args, launcher)
                   : LaunchHeads<float, 64>(args, launcher);
  }
  return is_half ? LaunchHeads<__half, 128>(args, launcher)
                 : LaunchHeads<float, 128>(args, launcher);
}

}  // namespace comet::cuda
