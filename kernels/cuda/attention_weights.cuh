#pragma once

#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/device/ptx_mma_f16.cuh"

// The weights of a page: keys times queries, and the softmax within the page.
namespace comet::cuda {

// Largest of the eight lanes that hold the other rows of a column.
__device__ __forceinline__ float MaxOverRows(float x) {
#pragma unroll
  for (int mask = 4; mask < kWarpLanes; mask *= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, mask));
  }
  return x;
}

__device__ __forceinline__ float SumOverRows(float x) {
#pragma unroll
  for (int mask = 4; mask < kWarpLanes; mask *= 2) x += __shfl_xor_sync(kAllLanes, x, mask);
  return x;
}

// The four registers of one A fragment of keys (rows are tokens), of 4 or 8 bits.
template <int kBits>
struct KeyFragments;

template <>
struct KeyFragments<4> {
  uint32_t words[4];  // Four k-steps.
  __device__ __forceinline__ void Load(const uint8_t* codes, int index) {
    const uint4 loaded = *reinterpret_cast<const uint4*>(codes + index * 16);
    words[0] = loaded.x, words[1] = loaded.y, words[2] = loaded.z, words[3] = loaded.w;
  }
  __device__ __forceinline__ void Expand(int i, uint32_t (&a)[4]) const {
    const uint32_t lower = words[i];
    const uint32_t upper = words[i] >> 8;
    a[0] = lower & 0x000f000fu;
    a[1] = upper & 0x000f000fu;
    a[2] = lower & 0x00f000f0u;
    a[3] = upper & 0x00f000f0u;
  }
};

template <>
struct KeyFragments<8> {
  uint32_t words[8];
  __device__ __forceinline__ void Load(const uint8_t* codes, int index) {
    const uint4* loaded = reinterpret_cast<const uint4*>(codes + index * 32);
    const uint4 first = loaded[0];
    const uint4 second = loaded[1];
    words[0] = first.x, words[1] = first.y, words[2] = first.z, words[3] = first.w;
    words[4] = second.x, words[5] = second.y, words[6] = second.z, words[7] = second.w;
  }
  __device__ __forceinline__ void Expand(int i, uint32_t (&a)[4]) const {
    a[0] = words[2 * i] & 0x00ff00ffu;
    a[1] = words[2 * i] >> 8 & 0x00ff00ffu;
    a[2] = words[2 * i + 1] & 0x00ff00ffu;
    a[3] = words[2 * i + 1] >> 8 & 0x00ff00ffu;
  }
};

// What a subnormal code must be multiplied with: lo codes are q * 2^-24, hi ones of 4-bit values
// q * 2^-20, see attention_values.cuh.
constexpr float kUnscaleLow = 0x1p24f;

// Sum of each column's query, in a thread's two columns a tile. Every row of the product is the
// same.
template <typename Shape>
__device__ void SumQueries(const QuerySmem<Shape>& queries,
                           float (&query_sum)[Shape::kColumnTiles][2]) {
  constexpr uint32_t kOnes = 0x3c003c00u;
  constexpr uint32_t kHigh = Shape::kKeyBits == 4 ? 0x4c004c00u : kOnes;  // 16: see LoadQueries().
  const uint32_t a[4] = {kOnes, kOnes, kHigh, kHigh};
  const int lane_idx = threadIdx.x % kWarpLanes;
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
    float acc[4] = {};
#pragma unroll
    for (int step = 0; step < Shape::kSteps; ++step) {
      const uint2 b = queries.fragments[n][step][lane_idx];
      ptx::MmaF16(acc, a, b.x, b.y);
    }
    query_sum[n][0] = acc[0];
    query_sum[n][1] = acc[1];
  }
}

// acc[tile][n] = this warp's page of keys times the queries, in units of 2^-24.
template <typename Shape>
__device__ __forceinline__ void MultiplyKeys(const QuerySmem<Shape>& queries, const uint8_t* codes,
                                             float (&acc)[kPageTiles][Shape::kColumnTiles][4]) {
  const int lane_idx = threadIdx.x % kWarpLanes;
#pragma unroll
  for (int tile = 0; tile < kPageTiles; ++tile) {
#pragma unroll
    for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) acc[tile][n][r] = 0.0f;
    }
  }
#pragma unroll
  for (int quarter = 0; quarter < Shape::kSteps / 4; ++quarter) {
    KeyFragments<Shape::kKeyBits> keys[kPageTiles];
#pragma unroll
    for (int tile = 0; tile < kPageTiles; ++tile) {
      keys[tile].Load(codes, (tile * (Shape::kSteps / 4) + quarter) * kWarpLanes + lane_idx);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      uint2 b[Shape::kColumnTiles];
#pragma unroll
      for (int n = 0; n < Shape::kColumnTiles; ++n) {
        b[n] = queries.fragments[n][quarter * 4 + i][lane_idx];
      }
#pragma unroll
      for (int tile = 0; tile < kPageTiles; ++tile) {
        uint32_t a[4];
        keys[tile].Expand(i, a);
#pragma unroll
        for (int n = 0; n < Shape::kColumnTiles; ++n) ptx::MmaF16(acc[tile][n], a, b[n].x, b[n].y);
      }
    }
  }
}

// (s, m) of a thread's eight tokens of a page: tile i's rows g and g + 8 are 2i and 2i + 1.
struct TokenScales {
  float scale[2 * kPageTiles];
  float minimum[2 * kPageTiles];
  __device__ __forceinline__ void Load(const uint8_t* scales, int g) {
    const uint4* loaded = reinterpret_cast<const uint4*>(scales + g * 32);
    const uint4 first = loaded[0];
    const uint4 second = loaded[1];
    const uint32_t words[8] = {first.x,  first.y,  first.z,  first.w,
                               second.x, second.y, second.z, second.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float2 pair = __half22float2(reinterpret_cast<const __half2&>(words[i]));
      scale[i] = pair.x;
      minimum[i] = pair.y;
    }
  }
};

// Scales p s by a power of two that brings the largest s of the page to [2^13, 2^14), so that small
// products keep fp16's precision.
__device__ __forceinline__ float ScaleOf(float scale_max) {
  const uint32_t exponent = __float_as_uint(scale_max) & 0x7f800000u;
  return exponent == 0 ? 1.0f : __uint_as_float(((127u + 127u + 13u) << 23) - exponent);
}
__device__ __forceinline__ float UnscaleOf(float scale_max) {
  const uint32_t exponent = __float_as_uint(scale_max) & 0x7f800000u;
  return exponent == 0 ? 1.0f : __uint_as_float(exponent - (13u << 23));
}

// Turns this warp's page of products into weights: p s as fp16 in group.weights, the rest in
// group.pages. kIsMasked: some column does not see the whole page.
template <typename Shape, bool kIsMasked>
__device__ __forceinline__ void WeighPage(const QuerySmem<Shape>& queries, const uint8_t* page,
                                          int first_position, int window, float softmax_scale,
                                          const float (&query_sum)[Shape::kColumnTiles][2],
                                          GroupWeights<Shape>& group,
                                          float (&acc)[kPageTiles][Shape::kColumnTiles][4]) {
  constexpr float kMiddleCode = Shape::kValueBits == 4 ? 7.5f : 127.5f;
  constexpr int kTokens = 2 * kPageTiles;  // Of a thread.
  const int warp_idx = GroupWarp();
  const int lane_idx = threadIdx.x % kWarpLanes;
  const int g = lane_idx / 4;
  const int t = lane_idx % 4;
  TokenScales keys;
  keys.Load(page + Shape::kLayout.k_scale_offset(), g);
  TokenScales values;
  values.Load(page + Shape::kLayout.v_scale_offset(), g);
  float whole_scale_max = 0.0f;
#pragma unroll
  for (int i = 0; i < kTokens; ++i) {
    keys.scale[i] *= softmax_scale * kUnscaleLow;
    keys.minimum[i] *= softmax_scale;
    whole_scale_max = fmaxf(whole_scale_max, values.scale[i]);
  }
  if constexpr (!kIsMasked) whole_scale_max = MaxOverRows(whole_scale_max);

#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
    const int column_idx = n * kTileColumns + 2 * t;
    int num_visible[2] = {};
    int num_hidden[2] = {};  // Before the window.
    PageWeights page_weights[2];
    float scale[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if constexpr (kIsMasked) {
        num_visible[c] = queries.positions[column_idx + c] + 1 - first_position;
        num_hidden[c] = num_visible[c] - window;
      }
      float max = -INFINITY;
      float scale_max = kIsMasked ? 0.0f : whole_scale_max;
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        float& logit = acc[i / 2][n][2 * (i % 2) + c];
        logit = __fmaf_rn(logit, keys.scale[i], query_sum[n][c] * keys.minimum[i]);
        if constexpr (kIsMasked) {
          const bool is_visible = i * 8 + g < num_visible[c] && i * 8 + g >= num_hidden[c];
          if (!is_visible) logit = -INFINITY;
          if (is_visible) scale_max = fmaxf(scale_max, values.scale[i]);
        }
        max = fmaxf(max, logit);
      }
      if constexpr (kIsMasked) scale_max = MaxOverRows(scale_max);
      scale[c] = ScaleOf(scale_max);
      page_weights[c] = {MaxOverRows(max), 0.0f, 0.0f, UnscaleOf(scale_max)};
    }
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      __half rounded[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        PageWeights& page = page_weights[c];
        const float weight = ptx::Exp2Approx(acc[i / 2][n][2 * (i % 2) + c] - Subtrahend(page.max));
        float exact = weight * (values.scale[i] * scale[c]);
        float minimum = values.minimum[i];
        if constexpr (kIsMasked) {  // What is not visible may be NaN.
          const bool is_visible = i * 8 + g < num_visible[c] && i * 8 + g >= num_hidden[c];
          exact = is_visible ? exact : 0.0f;
          minimum = is_visible ? minimum : 0.0f;
        }
        rounded[c] = __float2half_rn(exact);
        page.sum += weight;
        page.offset = __fmaf_rn(weight, minimum, page.offset);
        page.offset =
            __fmaf_rn(exact - __half2float(rounded[c]), page.unscale * kMiddleCode, page.offset);
      }
      __half* row = group.weights[n][warp_idx * kPageTokens + i * 8 + g];
      *reinterpret_cast<__half2*>(row + 2 * t) = __halves2half2(rounded[0], rounded[1]);
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      page_weights[c].sum = SumOverRows(page_weights[c].sum);
      page_weights[c].offset = SumOverRows(page_weights[c].offset);
      if (g == 0) group.pages[warp_idx][column_idx + c] = page_weights[c];
    }
  }
}

// This warp's page, whose first position is `first_position`: products, then weights.
template <typename Shape>
__device__ __forceinline__ void AttendPage(const AttentionParams& params, const QueryTile& tile,
                                           const QuerySmem<Shape>& queries, const uint8_t* page,
                                           int first_position,
                                           const float (&query_sum)[Shape::kColumnTiles][2],
                                           GroupWeights<Shape>& group) {
  float acc[kPageTiles][Shape::kColumnTiles][4];
  MultiplyKeys<Shape>(queries, page, acc);
  if (tile.AllSee(first_position, first_position + kPageTokens)) {
    WeighPage<Shape, false>(queries, page, first_position, params.window, params.softmax_scale,
                            query_sum, group, acc);
  } else {
    WeighPage<Shape, true>(queries, page, first_position, params.window, params.softmax_scale,
                           query_sum, group, acc);
  }
}

}  // namespace comet::cuda
