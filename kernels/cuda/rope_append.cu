// kernels/cuda/rope_append.cu
//
// Mapping  One warp per (token, head of q | k | v); lane l owns channels l, l + 32, ...
// Traffic  Reads qkv once, writes q once and the token's codes byte by byte: 2 x 2 bytes a channel
//          of q, k, v bound it. A decode step moves so little that launch and latency bound it.
// Limits   head_dim 64 or 128, 4 or 8 bits; see kernels/ops/rope_append.h.

#include "kernels/cuda/rope_append.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>

#include "kernels/base/math.h"
#include "kernels/cuda/batch_search.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/kv_page_layout.cuh"
#include "kernels/cuda/kv_support.h"
#include "kernels/cuda/launch.h"

namespace comet::cuda {
namespace {

constexpr int kWarps = 4;  // Of a CTA; warps share nothing.
constexpr int kWarpLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <typename T>
struct RopeAppendParams {
  const T* qkv;
  int64_t qkv_row_stride;
  T* q_out;
  int64_t q_row_stride;
  const float* cos;
  const float* sin;
  int num_pairs;  // rotary_dim / 2
  uint8_t* pages;
  int64_t page_stride;
  KvPageLayout layout;
  DeviceBatch batch;
  int num_heads;
  int num_kv_heads;
  bool hadamard;
  float hadamard_factor;
};

__device__ __forceinline__ float LoadAsFloat(const float* x) { return *x; }
__device__ __forceinline__ float LoadAsFloat(const __half* x) { return __half2float(*x); }
__device__ __forceinline__ void StoreRounded(float* out, float x) { *out = x; }
__device__ __forceinline__ void StoreRounded(__half* out, float x) { *out = __float2half_rn(x); }

template <int kHeadDim>
struct HeadValues {
  static constexpr int kPerLane = kHeadDim / kWarpLanes;
  float x[kPerLane];
};

// `row` is this warp's shared memory.
template <int kHeadDim>
__device__ void Rotate(HeadValues<kHeadDim>& head, float* row, const float* cos, const float* sin,
                       int num_pairs, int lane_idx) {
#pragma unroll
  for (int j = 0; j < head.kPerLane; ++j) row[lane_idx + j * kWarpLanes] = head.x[j];
  __syncwarp();
#pragma unroll
  for (int j = 0; j < head.kPerLane; ++j) {
    const int channel = lane_idx + j * kWarpLanes;
    if (channel < num_pairs) {
      head.x[j] = head.x[j] * cos[channel] - row[channel + num_pairs] * sin[channel];
    } else if (channel < 2 * num_pairs) {
      const int pair = channel - num_pairs;
      head.x[j] = head.x[j] * cos[pair] + row[pair] * sin[pair];
    }
  }
  __syncwarp();
}

// Sylvester order: strides within a warp's lanes first, then between a lane's own channels.
template <int kHeadDim>
__device__ void ApplyHadamard(HeadValues<kHeadDim>& head, float factor, int lane_idx) {
#pragma unroll
  for (int stride = 1; stride < kWarpLanes; stride *= 2) {
#pragma unroll
    for (float& x : head.x) {
      const float other = __shfl_xor_sync(kAllLanes, x, stride);
      x = (lane_idx & stride) != 0 ? other - x : x + other;
    }
  }
#pragma unroll
  for (int stride = 1; stride < head.kPerLane; stride *= 2) {
#pragma unroll
    for (int j = 0; j < head.kPerLane; ++j) {
      if ((j & stride) != 0) continue;
      const float a = head.x[j];
      const float b = head.x[j + stride];
      head.x[j] = a + b;
      head.x[j + stride] = a - b;
    }
  }
#pragma unroll
  for (float& x : head.x) x = x * factor;
}

struct RowScale {
  __half scale;
  __half minimum;
};

template <int kHeadDim>
__device__ RowScale ChooseScale(const HeadValues<kHeadDim>& head, float levels) {
  float low = head.x[0];
  float high = head.x[0];
  bool is_finite = true;
#pragma unroll
  for (const float x : head.x) {
    low = fminf(low, x);
    high = fmaxf(high, x);
    is_finite = is_finite && isfinite(x);
  }
#pragma unroll
  for (int mask = kWarpLanes / 2; mask > 0; mask /= 2) {
    low = fminf(low, __shfl_xor_sync(kAllLanes, low, mask));
    high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, mask));
  }
  const RowScale row{__float2half_rn((high - low) / levels), __float2half_rn(low)};
  if (__all_sync(kAllLanes, is_finite) && isfinite(__half2float(row.scale)) &&
      isfinite(__half2float(row.minimum))) {
    return row;
  }
  return {__float2half_rn(NAN), __float2half_rn(NAN)};
}

// Stores one token's key or value; `codes` is this warp's shared memory.
template <int kHeadDim, bool kIsKey>
__device__ void Append(const HeadValues<kHeadDim>& head, const KvPageLayout& layout,
                       uint8_t* head_page, int token_idx, uint8_t* codes, int lane_idx) {
  const int bits = kIsKey ? layout.k_bits : layout.v_bits;
  const float levels = bits == 4 ? 15.0f : 255.0f;
  const RowScale row = ChooseScale(head, levels);
  const float scale = __half2float(row.scale);
  const float minimum = __half2float(row.minimum);
#pragma unroll
  for (int j = 0; j < head.kPerLane; ++j) {
    float code = 0.0f;
    if (scale > 0.0f) {
      code = fminf(fmaxf(rintf((head.x[j] - minimum) / scale), 0.0f), levels);
    }
    codes[lane_idx + j * kWarpLanes] = static_cast<uint8_t>(code);
  }
  __syncwarp();

  uint8_t* side = head_page + (kIsKey ? 0 : layout.v_code_offset());
  const auto place = [&](int channel) {
    return kIsKey ? KeyCodePlace(layout, token_idx, channel)
                  : ValueCodePlace(layout, token_idx, channel);
  };
  if (bits == 8) {
    for (int channel = lane_idx; channel < kHeadDim; channel += kWarpLanes) {
      side[place(channel).byte] = codes[channel];
    }
  } else {
    // The other channel of a byte is two further for keys, the next one for values.
    for (int i = lane_idx; i < kHeadDim / 2; i += kWarpLanes) {
      const int low = kIsKey ? i / 2 * 4 + i % 2 : 2 * i;
      const int high = low + (kIsKey ? 2 : 1);
      side[place(low).byte] = static_cast<uint8_t>(codes[low] | codes[high] << 4);
    }
  }
  if (lane_idx == 0) {
    const int offset = kIsKey ? layout.k_scale_offset() : layout.v_scale_offset();
    __half2* scales = reinterpret_cast<__half2*>(head_page + offset + ScalePlace(token_idx));
    *scales = __halves2half2(row.scale, row.minimum);
  }
}

template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kWarps* kWarpLanes)
    RopeAppendKernel(const __grid_constant__ RopeAppendParams<T> params) {
  __shared__ float smem_rows[kWarps][kHeadDim];
  __shared__ uint8_t smem_codes[kWarps][kHeadDim];
  const int lane_idx = threadIdx.x % kWarpLanes;
  const int warp_idx = threadIdx.x / kWarpLanes;
  const int num_slots = params.num_heads + 2 * params.num_kv_heads;
  const int64_t item_idx = int64_t{blockIdx.x} * kWarps + warp_idx;
  const int token_row = static_cast<int>(item_idx / num_slots);
  const int slot_idx = static_cast<int>(item_idx % num_slots);
  ReleaseNextGrids();
  WaitForPreviousGrids();
  if (token_row >= params.batch.num_tokens) return;

  HeadValues<kHeadDim> head;
  const T* source = params.qkv + token_row * params.qkv_row_stride + slot_idx * kHeadDim;
#pragma unroll
  for (int j = 0; j < head.kPerLane; ++j) {
    head.x[j] = LoadAsFloat(source + lane_idx + j * kWarpLanes);
  }
  const TokenPlace token = FindToken(params.batch, token_row);

  const bool is_value = slot_idx >= params.num_heads + params.num_kv_heads;
  if (!is_value) {
    const int64_t table_row = int64_t{token.position} * params.num_pairs;
    Rotate(head, smem_rows[warp_idx], params.cos + table_row, params.sin + table_row,
           params.num_pairs, lane_idx);
    if (params.hadamard) ApplyHadamard(head, params.hadamard_factor, lane_idx);
  }
  if (slot_idx < params.num_heads) {
    T* out = params.q_out + token_row * params.q_row_stride + slot_idx * kHeadDim;
#pragma unroll
    for (int j = 0; j < head.kPerLane; ++j)
      StoreRounded(out + lane_idx + j * kWarpLanes, head.x[j]);
    return;
  }

  const int kv_head_idx = (slot_idx - params.num_heads) % params.num_kv_heads;
  const int page_id = params.batch.PageId(token.sequence_idx, token.position / kPageTokens);
  uint8_t* head_page = params.pages + page_id * params.page_stride +
                       int64_t{kv_head_idx} * params.layout.head_bytes();
  const int token_idx = token.position % kPageTokens;
  if (is_value) {
    Append<kHeadDim, false>(head, params.layout, head_page, token_idx, smem_codes[warp_idx],
                            lane_idx);
  } else {
    Append<kHeadDim, true>(head, params.layout, head_page, token_idx, smem_codes[warp_idx],
                           lane_idx);
  }
}

template <typename T, int kHeadDim>
Status LaunchHeads(const RopeAppendArgs& args, cudaStream_t stream) {
  const RopeAppendParams<T> params{
      .qkv = static_cast<const T*>(args.qkv.data()),
      .qkv_row_stride = args.qkv.stride(0),
      .q_out = static_cast<T*>(args.q_out.data()),
      .q_row_stride = args.q_out.stride(0),
      .cos = args.cos.as<float>(),
      .sin = args.sin.as<float>(),
      .num_pairs = args.cos.dim(1),
      .pages = args.cache.pages.as<uint8_t>(),
      .page_stride = args.cache.pages.stride(0),
      .layout = {kHeadDim, args.cache.format.k_bits, args.cache.format.v_bits},
      .batch = MakeDeviceBatch(args.batch),
      .num_heads = args.num_heads,
      .num_kv_heads = args.cache.num_kv_heads,
      .hadamard = args.hadamard,
      .hadamard_factor = 1.0f / std::sqrt(static_cast<float>(kHeadDim))};
  const int64_t num_items =
      int64_t{args.batch.num_tokens} * (args.num_heads + 2 * args.cache.num_kv_heads);
  const unsigned num_ctas = static_cast<unsigned>(CeilDiv<int64_t>(num_items, kWarps));
  COMET_ASSIGN_OR_RETURN(const DeviceLimits limits, QueryDeviceLimits());
  return Launch("rope_append", limits, {.grid = dim3(num_ctas), .num_threads = kWarps * kWarpLanes},
                stream, RopeAppendKernel<T, kHeadDim>, params);
}

}  // namespace

Status RopeAppend(const RopeAppendArgs& args, cudaStream_t stream) {
  COMET_RETURN_IF_ERROR(Validate(args));
  if (args.batch.num_tokens == 0) return Status::Ok();
  const KvCacheView& cache = args.cache;
  COMET_RETURN_IF_ERROR(CheckKvKernels("rope_append", cache));
  COMET_RETURN_IF_ERROR(Validate("rope_append", cache,
                                 KvPageBytes(cache.format, cache.num_kv_heads, cache.head_dim)));
  const bool is_half = args.qkv.dtype() == DType::kF16;
  if (cache.head_dim == 64) {
    return is_half ? LaunchHeads<__half, 64>(args, stream) : LaunchHeads<float, 64>(args, stream);
  }
  return is_half ? LaunchHeads<__half, 128>(args, stream) : LaunchHeads<float, 128>(args, stream);
}

}  // namespace comet::cuda
