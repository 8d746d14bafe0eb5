// kernels/cuda/attention_tile.cuh
//
// Tiles of query columns as decoding, and chunks below Hopper, attend to them: their shape, what
// warps tell each other, their queries.
//
// Mapping  A query column is one token's head of the KV head's group; a tile is 8 columns (decode)
//          or 32 (chunks, where sm90_attention.cu does not take them). The cache goes by in groups
//          of four pages. Per group, warp w computes the logits and weights of page w (tokens are
//          the matrix's rows, queries its columns; attention_weights.cuh), then a quarter of the
//          channels of the output over all four pages (attention_values.cuh).
// Numerics Codes enter the tensor cores as exact fp16 subnormals, so no element is scaled:
//          logit = s (Q . q) + m Sum(Q), output = Sum((p s) q) + Sum(p m). p s is rounded to fp16
//          relative to its page's largest s and p; what the rounding dropped returns times the
//          middle code. Groups fold left to right into a unit of kUnitTokens, units into the
//          result: only absolute positions decide the order, so a column's bits depend neither on
//          the batch, nor on the chunking, nor on the tile's width.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_params.cuh"
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

// The maximum to subtract: 0 where nothing was seen, so that -infinity stays out of differences.
__device__ __forceinline__ float Subtrahend(float max) { return max == -INFINITY ? 0.0f : max; }

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

}  // namespace comet::cuda
