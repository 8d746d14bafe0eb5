// kernels/cuda/attention_kernel.cuh
//
// Attention over the paged KV cache, decode and prefill chunks alike.
//
// Mapping  One CTA of four warps per (sequence, KV head, tile of query columns), or, where these
//          are too few for the device, per kUnitTokens of such a sequence: then each stores its
//          units' partial results, and a second kernel folds them as one CTA would have. A query
//          column is one token's head of the KV head's group; a tile is 8 columns (decode) or 32
//          (chunks, where sm90_attention.cu does not take them). The cache goes by in groups of
//          four pages. Per group, warp w computes the logits and weights of page w (tokens are the
//          matrix's rows, queries its columns), then, after one barrier, a quarter of the channels
//          of the output over all four pages.
// Numerics Codes enter the tensor cores as exact fp16 subnormals, so no element is scaled:
//          logit = s (Q . q) + m Sum(Q), output = Sum((p s) q) + Sum(p m). p s is rounded to fp16
//          relative to its page's largest s and p; what the rounding dropped returns times the
//          middle code. Groups fold left to right into a unit of kUnitTokens, units into the
//          result: only absolute positions decide the order, so a column's bits depend neither on
//          the batch, nor on the chunking, nor on the tile's width.
// Traffic  The cache's bytes of the sequence, once per tile: 8,704 a page and KV head at 4 bits and
//          head_dim 128. Decoding is bound by it, chunks by the tensor cores.
// Limits   See attention.h.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_params.cuh"
#include "kernels/cuda/device/ptx_address.cuh"
#include "kernels/cuda/device/ptx_async_copy.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/ptx_mma_f16.cuh"
#include "kernels/cuda/kv_page_layout.cuh"

namespace comet::cuda {

constexpr int kWarps = 4;
constexpr int kWarpLanes = 32;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kGroupPages = kWarps;  // One page a warp.
constexpr int kCacheGroupTokens = kGroupPages * kPageTokens;
constexpr int kUnitTokens = 1024;  // Of the partial results that a split would exchange.
constexpr int kUnitGroups = kUnitTokens / kCacheGroupTokens;
constexpr int kTileTokens = 16;  // Rows of one mma.
constexpr int kPageTiles = kPageTokens / kTileTokens;
constexpr int kTileColumns = 8;  // Columns of one mma.
constexpr unsigned kAllLanes = 0xffffffffu;

// The shape of one instance.
template <int kHeadDimT, int kKeyBitsT, int kValueBitsT, int kColumnTilesT, int kStagesT>
struct AttentionShape {
  static constexpr int kHeadDim = kHeadDimT;
  static constexpr int kKeyBits = kKeyBitsT;
  static constexpr int kValueBits = kValueBitsT;
  static constexpr int kColumnTiles = kColumnTilesT;
  static constexpr int kStages = kStagesT;
  static constexpr int kColumns = kColumnTiles * kTileColumns;
  static constexpr int kSteps = kHeadDim / 16;      // mma steps of Q . q
  static constexpr int kWarpTiles = kHeadDim / 64;  // Output tiles of 16 channels of a warp.
  static constexpr KvPageLayout kLayout{kHeadDim, kKeyBits, kValueBits};
  static constexpr int kHeadBytes = kLayout.head_bytes();
};

// What one warp knows of one column's page, for the warps that weigh values with it.
struct PageWeights {
  float max;      // Largest logit; -infinity where the column sees nothing of the page.
  float sum;      // Of p.
  float offset;   // Of p m.
  float unscale;  // What undoes the scaling of p s to fp16's range.
};

// What the warps of a group tell each other.
template <typename Shape>
struct alignas(16) GroupWeights {
  __half weights[Shape::kColumnTiles][kCacheGroupTokens][kTileColumns];
  PageWeights pages[kGroupPages][Shape::kColumns];
};

template <typename Shape>
struct alignas(16) QuerySmem {
  uint2 fragments[Shape::kColumnTiles][Shape::kSteps][kWarpLanes];  // B fragments.
  int positions[Shape::kColumns];                                   // -1: no query.
};

template <typename Shape>
struct alignas(16) AttentionSmem {
  uint8_t stages[Shape::kStages][kGroupPages][Shape::kHeadBytes];
  QuerySmem<Shape> queries;
  GroupWeights<Shape> group;
};

// Running softmax of a thread's columns and channels.
template <typename Shape>
struct AttentionState {
  float max[Shape::kColumnTiles][2];
  float sum[Shape::kColumnTiles][2];
  float offset[Shape::kColumnTiles][2];
  float out[Shape::kWarpTiles][Shape::kColumnTiles][4];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        max[n][c] = -INFINITY;
        sum[n][c] = 0.0f;
        offset[n][c] = 0.0f;
      }
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
#pragma unroll
        for (int r = 0; r < 4; ++r) out[i][n][r] = 0.0f;
      }
    }
  }
};

// The maximum to subtract: 0 where nothing was seen, so that -infinity stays out of differences.
__device__ __forceinline__ float Subtrahend(float max) { return max == -INFINITY ? 0.0f : max; }

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

// Tile `tile_idx` of those of all KV heads: a decode tile of 8 columns is a sequence of one token,
// chunk tiles share the others.
template <typename Shape>
__device__ __forceinline__ QueryTile FindTile(const AttentionParams& params, int tile_idx) {
  const int kv_head_idx = tile_idx % params.num_kv_heads;
  tile_idx /= params.num_kv_heads;
  if constexpr (Shape::kColumnTiles == 1) {
    if (params.batch.num_queries(tile_idx) != 1) return {};
    return DecodeTile(params, tile_idx, kv_head_idx);
  } else {
    return ChunkTiles(params, Shape::kColumns).Find(tile_idx, kv_head_idx);
  }
}

// The thread among the four warps that work together.
__device__ __forceinline__ int GroupThread() { return static_cast<int>(threadIdx.x) % kThreads; }
__device__ __forceinline__ int GroupWarp() { return GroupThread() / kWarpLanes; }

template <typename Shape>
__device__ __forceinline__ Column ColumnOf(const AttentionParams& params, const QueryTile& tile,
                                           int column_idx) {
  if constexpr (Shape::kColumnTiles > 1) {
    return ColumnAt(params, tile, column_idx);
  } else {  // One token's heads.
    return {.row = tile.first_row,
            .head_idx = tile.kv_head_idx * params.group_heads + column_idx,
            .position = tile.num_positions - 1};
  }
}

// Writes the tile's queries as B fragments: lane 4 g + t has column g's channels of k-step i that
// KvPageLayout gives lane t. 4-bit keys' hi codes count 16 times, so their channels of q do 1 / 16.
template <typename Shape>
__device__ void LoadQueries(const AttentionParams& params, const QueryTile& tile,
                            QuerySmem<Shape>& queries) {
  constexpr int kLaneChannels = Shape::kHeadDim / 4;
  constexpr int kFragments = Shape::kColumnTiles * Shape::kSteps / kWarps;  // Of a thread.
  const int lane_idx = GroupThread() % kWarpLanes;
  uint2 fragments[kFragments];  // All asked for before any is stored.
#pragma unroll
  for (int i = 0; i < kFragments; ++i) {
    const int step_idx = (i * kWarps + GroupWarp()) % Shape::kSteps;
    const int column_idx = i * kWarps / Shape::kSteps * kTileColumns + lane_idx / 4;
    fragments[i] = make_uint2(0u, 0u);
    if (column_idx < tile.num_columns) {
      const Column column = ColumnOf<Shape>(params, tile, column_idx);
      const __half* q = params.q + column.row * params.q_row_stride +
                        column.head_idx * Shape::kHeadDim + lane_idx % 4 * kLaneChannels +
                        step_idx * 4;
      fragments[i] = *reinterpret_cast<const uint2*>(q);
    }
  }
  for (int column_idx = GroupThread(); column_idx < Shape::kColumns; column_idx += kThreads) {
    queries.positions[column_idx] =
        column_idx < tile.num_columns ? ColumnOf<Shape>(params, tile, column_idx).position : -1;
  }
#pragma unroll
  for (int i = 0; i < kFragments; ++i) {
    if constexpr (Shape::kKeyBits == 4) {
      __half2& hi = reinterpret_cast<__half2&>(fragments[i].y);
      hi = __hmul2(hi, __float2half2_rn(0.0625f));
    }
    const int step_idx = (i * kWarps + GroupWarp()) % Shape::kSteps;
    queries.fragments[i * kWarps / Shape::kSteps][step_idx][lane_idx] = fragments[i];
  }
}

// Starts copying group `group_idx` of the cache into its stage: warp w page w. `page_id` is that
// page's, read one group ahead.
template <typename Shape>
__device__ __forceinline__ void StartGroup(const AttentionParams& params, const QueryTile& tile,
                                           AttentionSmem<Shape>& smem, int group_idx, int page_id) {
  const int warp_idx = GroupWarp();
  const int lane_idx = threadIdx.x % kWarpLanes;
  if (tile.ReadsPage(group_idx * kGroupPages + warp_idx)) {
    const uint8_t* source =
        params.pages + page_id * params.page_stride + int64_t{tile.kv_head_idx} * Shape::kHeadBytes;
    uint8_t* destination = smem.stages[group_idx % Shape::kStages][warp_idx];
#pragma unroll
    for (int offset = 0; offset < Shape::kHeadBytes; offset += kWarpLanes * 16) {
      const int byte = offset + lane_idx * 16;
      if (Shape::kHeadBytes % (kWarpLanes * 16) == 0 || byte < Shape::kHeadBytes) {
        ptx::StartAsyncCopy16(destination + byte, source + byte, 16);
      }
    }
  }
  ptx::CommitAsyncCopies();
}

// This warp's page of group `group_idx`, or 0 where nothing is read.
__device__ __forceinline__ int PageOfGroup(const AttentionParams& params, const QueryTile& tile,
                                           int group_idx) {
  const int page_idx = group_idx * kGroupPages + static_cast<int>(threadIdx.x) / kWarpLanes;
  if (!tile.ReadsPage(page_idx)) return 0;
  return params.batch.PageId(tile.sequence_idx, page_idx);
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

// The same of values, whose rows are channels: at 4 bits the nibbles are in another order.
template <int kBits>
struct ValueFragments : KeyFragments<kBits> {
  __device__ __forceinline__ void ExpandValue(int i, uint32_t (&a)[4]) const {
    this->Expand(i, a);
    if constexpr (kBits == 4) {
      const uint32_t swapped = a[1];
      a[1] = a[2];
      a[2] = swapped;
    }
  }
};

// What a subnormal code must be multiplied with: lo codes are q * 2^-24, hi ones at 4 bits q *
// 2^-20.
constexpr float kUnscaleLow = 0x1p24f;
template <int kBits>
constexpr float kUnscaleHigh = kBits == 4 ? 0x1p20f : 0x1p24f;

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

// Folds the group's four pages into `unit`, page by page, in this warp's channels.
template <typename Shape>
__device__ __forceinline__ void WeighValues(const GroupWeights<Shape>& group,
                                            const uint8_t (&stage)[kGroupPages][Shape::kHeadBytes],
                                            AttentionState<Shape>& unit) {
  const int warp_idx = GroupWarp();
  const int lane_idx = threadIdx.x % kWarpLanes;
  const int t = lane_idx % 4;
  float factor[kGroupPages][Shape::kColumnTiles][2];
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      PageWeights pages[kGroupPages];
      float max = unit.max[n][c];
#pragma unroll
      for (int w = 0; w < kGroupPages; ++w) {
        pages[w] = group.pages[w][n * kTileColumns + 2 * t + c];
        max = fmaxf(max, pages[w].max);
      }
      const float subtrahend = Subtrahend(max);
      const float unit_factor = ptx::Exp2Approx(unit.max[n][c] - subtrahend);
      unit.max[n][c] = max;
      unit.sum[n][c] *= unit_factor;
      unit.offset[n][c] *= unit_factor;
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
        unit.out[i][n][c] *= unit_factor;
        unit.out[i][n][c + 2] *= unit_factor;
      }
#pragma unroll
      for (int w = 0; w < kGroupPages; ++w) {
        const float page_factor = ptx::Exp2Approx(pages[w].max - subtrahend);
        unit.sum[n][c] = __fmaf_rn(pages[w].sum, page_factor, unit.sum[n][c]);
        unit.offset[n][c] = __fmaf_rn(pages[w].offset, page_factor, unit.offset[n][c]);
        factor[w][n][c] = page_factor * pages[w].unscale;
      }
    }
  }

#pragma unroll
  for (int w = 0; w < kGroupPages; ++w) {
    uint32_t b[Shape::kColumnTiles][2][4];  // Two k-steps a load.
#pragma unroll
    for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = w * kPageTokens + half * kWarpLanes + lane_idx;
        ptx::LoadMatrices4Transposed(b[n][half], ptx::SharedAddress(group.weights[n][row]));
      }
    }
    const uint8_t* codes = stage[w] + Shape::kLayout.v_code_offset();
#pragma unroll
    for (int i = 0; i < Shape::kWarpTiles; ++i) {
      ValueFragments<Shape::kValueBits> values;
      values.Load(codes, (warp_idx * Shape::kWarpTiles + i) * kWarpLanes + lane_idx);
      float acc[Shape::kColumnTiles][4] = {};
#pragma unroll
      for (int step = 0; step < kPageTiles; ++step) {
        uint32_t a[4];
        values.ExpandValue(step, a);
#pragma unroll
        for (int n = 0; n < Shape::kColumnTiles; ++n) {
          ptx::MmaF16(acc[n], a, b[n][step / 2][step % 2 * 2], b[n][step / 2][step % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          unit.out[i][n][r] = __fmaf_rn(acc[n][r], factor[w][n][r % 2], unit.out[i][n][r]);
        }
      }
    }
  }
}

// Adds a finished unit to the result so far.
template <typename Shape>
__device__ __forceinline__ void Fold(AttentionState<Shape>& state,
                                     const AttentionState<Shape>& unit) {
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float max = fmaxf(state.max[n][c], unit.max[n][c]);
      const float subtrahend = Subtrahend(max);
      const float state_factor = ptx::Exp2Approx(state.max[n][c] - subtrahend);
      const float unit_factor = ptx::Exp2Approx(unit.max[n][c] - subtrahend);
      const auto fold = [&](float& to, float from) {
        to = __fmaf_rn(from, unit_factor, to * state_factor);
      };
      state.max[n][c] = max;
      fold(state.sum[n][c], unit.sum[n][c]);
      fold(state.offset[n][c], unit.offset[n][c]);
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
        fold(state.out[i][n][c], unit.out[i][n][c]);
        fold(state.out[i][n][c + 2], unit.out[i][n][c + 2]);
      }
    }
  }
}

// Divides and stores: a thread has 2 * kWarpTiles neighbouring channels of each of its columns.
template <typename Shape>
__device__ void StoreOutput(const AttentionParams& params, const QueryTile& tile,
                            const AttentionState<Shape>& state) {
  constexpr int kThreadChannels = 2 * Shape::kWarpTiles;
  const int warp_idx = GroupWarp();
  const int lane_idx = threadIdx.x % kWarpLanes;
  const int first_channel = warp_idx * (Shape::kHeadDim / kWarps) + lane_idx / 4 * kThreadChannels;
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column_idx = n * kTileColumns + lane_idx % 4 * 2 + c;
      if (column_idx >= tile.num_columns) continue;
      const Column column = ColumnOf<Shape>(params, tile, column_idx);
      __half2 channels[Shape::kWarpTiles];
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
        const float low = __fmaf_rn(state.out[i][n][c], kUnscaleLow, state.offset[n][c]);
        const float high =
            __fmaf_rn(state.out[i][n][c + 2], kUnscaleHigh<Shape::kValueBits>, state.offset[n][c]);
        channels[i] = __floats2half2_rn(low / state.sum[n][c], high / state.sum[n][c]);
      }
      __half* out = params.out + column.row * params.out_row_stride +
                    column.head_idx * Shape::kHeadDim + first_channel;
      if constexpr (Shape::kWarpTiles == 2) {
        *reinterpret_cast<uint2*>(out) = reinterpret_cast<const uint2&>(channels);
      } else {
        *reinterpret_cast<__half2*>(out) = channels[0];
      }
    }
  }
}

// Where a thread's part of a unit's partial result lies: its words are kThreads apart.
template <typename Shape>
__device__ __forceinline__ float* UnitOf(const AttentionParams& params, int tile_idx,
                                         int unit_idx) {
  constexpr int kWords = static_cast<int>(sizeof(AttentionState<Shape>) / sizeof(float));
  const int64_t tile_unit = int64_t{tile_idx} * params.units_max + unit_idx;
  return params.units + tile_unit * (kWords * kThreads) + GroupThread();
}

// Calls visit(word of the state, word in memory) for every word.
template <typename Shape, typename State, typename Visit>
__device__ __forceinline__ void ForEachWord(State& state, float* memory, const Visit& visit) {
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      for (auto* word : {&state.max[n][c], &state.sum[n][c], &state.offset[n][c]}) {
        visit(*word, *memory);
        memory += kThreads;
      }
    }
#pragma unroll
    for (int i = 0; i < Shape::kWarpTiles; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        visit(state.out[i][n][r], *memory);
        memory += kThreads;
      }
    }
  }
}

// Folds the units of a split tile, first to last.
template <typename Shape>
__global__ void __launch_bounds__(kThreads)
    FoldUnitsKernel(const __grid_constant__ AttentionParams params) {
  ReleaseNextGrids();
  WaitForPreviousGrids();
  const int tile_idx = static_cast<int>(blockIdx.x);
  const QueryTile tile = FindTile<Shape>(params, tile_idx);
  if (tile.sequence_idx < 0) return;
  constexpr int kUnitsInFlight = 8;  // Loads under way at once hide each other's latency.
  const int num_units = (tile.num_positions + kUnitTokens - 1) / kUnitTokens;
  AttentionState<Shape> state;
  state.Clear();
  for (int first_unit = tile.first_position / kUnitTokens; first_unit < num_units;
       first_unit += kUnitsInFlight) {
    AttentionState<Shape> units[kUnitsInFlight];
#pragma unroll
    for (int i = 0; i < kUnitsInFlight; ++i) {
      if (first_unit + i >= num_units) continue;
      ForEachWord<Shape>(units[i], UnitOf<Shape>(params, tile_idx, first_unit + i),
                         [](float& word, const float& memory) { word = memory; });
    }
#pragma unroll
    for (int i = 0; i < kUnitsInFlight; ++i) {
      if (first_unit + i < num_units) Fold<Shape>(state, units[i]);
    }
  }
  StoreOutput<Shape>(params, tile, state);
}

template <typename Shape>
__global__ void __launch_bounds__(kThreads)
    AttentionKernel(const __grid_constant__ AttentionParams params) {
  extern __shared__ uint8_t smem_bytes[];
  AttentionSmem<Shape>& smem = *reinterpret_cast<AttentionSmem<Shape>*>(smem_bytes);
  ReleaseNextGrids();
  WaitForPreviousGrids();
  const int tile_idx = static_cast<int>(blockIdx.x);
  const QueryTile tile = FindTile<Shape>(params, tile_idx);
  if (tile.sequence_idx < 0) return;

  const int warp_idx = GroupWarp();
  const int split_group = static_cast<int>(blockIdx.y) * params.split_units * kUnitGroups;
  const int first_group = max(split_group, tile.first_position / kCacheGroupTokens);
  const int end_group = min(split_group + params.split_units * kUnitGroups,
                            (tile.num_positions + kCacheGroupTokens - 1) / kCacheGroupTokens);
  if (first_group >= end_group) return;
  int next_page = PageOfGroup(params, tile, first_group);
#pragma unroll
  for (int i = 0; i < Shape::kStages - 1; ++i) {
    StartGroup<Shape>(params, tile, smem, first_group + i, next_page);
    next_page = PageOfGroup(params, tile, first_group + i + 1);
  }
  LoadQueries<Shape>(params, tile, smem.queries);
  __syncthreads();
  float query_sum[Shape::kColumnTiles][2];
  SumQueries<Shape>(smem.queries, query_sum);

  AttentionState<Shape> state;
  AttentionState<Shape> unit;
  state.Clear();
  unit.Clear();
  for (int group_idx = first_group; group_idx < end_group; ++group_idx) {
    ptx::WaitAsyncCopies<Shape::kStages - 2>();
    __syncthreads();  // The group is there, and the one before has been read.
    StartGroup<Shape>(params, tile, smem, group_idx + Shape::kStages - 1, next_page);
    next_page = PageOfGroup(params, tile, group_idx + Shape::kStages);

    const auto& stage = smem.stages[group_idx % Shape::kStages];
    AttendPage<Shape>(params, tile, smem.queries, stage[warp_idx],
                      (group_idx * kGroupPages + warp_idx) * kPageTokens, query_sum, smem.group);
    __syncthreads();  // All four pages' weights are there.
    WeighValues<Shape>(smem.group, stage, unit);
    if ((group_idx + 1) % kUnitGroups != 0 && group_idx + 1 < end_group) continue;
    if (params.units != nullptr) {
      ForEachWord<Shape>(unit, UnitOf<Shape>(params, tile_idx, group_idx / kUnitGroups),
                         [](const float& word, float& memory) { memory = word; });
    } else {
      Fold<Shape>(state, unit);
    }
    unit.Clear();
  }
  if (params.units == nullptr) StoreOutput<Shape>(params, tile, state);
}

}  // namespace comet::cuda
