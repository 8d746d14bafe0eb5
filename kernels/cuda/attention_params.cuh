#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/batch_search.cuh"
#include "kernels/cuda/work_queue.cuh"

namespace comet::cuda {

// AttentionArgs as the kernels read them.
struct AttentionParams {
  const __half* q;
  int64_t q_row_stride;
  __half* out;
  int64_t out_row_stride;
  const uint8_t* pages;
  int64_t page_stride;
  DeviceBatch batch;
  int num_kv_heads;
  int group_heads;      // Query heads of a KV head, at most 8.
  int window;           // Positions that a column sees, its own the last.
  float softmax_scale;  // Times log2(e).
  float* units;         // Split: [tile, unit, word of AttentionState, thread]; else null.
  int units_max;        // Of a tile, in `units`.
  int split_units;      // Units of one item of work; all of them unless split.
  WorkCounters* work;
};

// A sequence whose step has one token is decoded, any other is a chunk. A query column is one
// token's head of a KV head's group, the heads of a token neighbours.
struct QueryTile {
  int sequence_idx = -1;  // -1: nothing to do.
  int kv_head_idx = 0;
  int first_column = 0;  // In the sequence's num_queries * group_heads columns.
  int num_columns = 0;
  int first_position = 0;     // Some column sees positions from here ...
  int num_positions = 0;      // ... to below here,
  int first_seen_by_all = 0;  // and every one those from here ...
  int num_seen_by_all = 0;    // ... to below here.

  // Whether each column sees each of the positions [first, end).
  __device__ __forceinline__ bool AllSee(int first, int end) const {
    return first >= first_seen_by_all && end <= num_seen_by_all;
  }
  // Whether some column sees something of page `page_idx`: others are never read.
  __device__ __forceinline__ bool ReadsPage(int page_idx) const {
    return page_idx * kPageTokens < num_positions && (page_idx + 1) * kPageTokens > first_position;
  }
};

// Tile `tile_in_sequence` of `columns` columns of the sequence.
__device__ __forceinline__ QueryTile TileOfSequence(const AttentionParams& params, int columns,
                                                    int sequence_idx, int tile_in_sequence,
                                                    int kv_head_idx) {
  const int num_queries = params.batch.num_queries(sequence_idx);
  QueryTile tile;
  tile.sequence_idx = sequence_idx;
  tile.kv_head_idx = kv_head_idx;
  tile.first_column = tile_in_sequence * columns;
  tile.num_columns = min(columns, num_queries * params.group_heads - tile.first_column);
  const int num_before = params.batch.context_length[sequence_idx] - num_queries;
  const int last_query = (tile.first_column + tile.num_columns - 1) / params.group_heads;
  tile.num_positions = num_before + last_query + 1;
  tile.num_seen_by_all = num_before + tile.first_column / params.group_heads + 1;
  tile.first_position = max(0, tile.num_seen_by_all - params.window);
  tile.first_seen_by_all = max(0, tile.num_positions - params.window);
  return tile;
}

// One column's row of q and out, and its position.
struct Column {
  int64_t row = 0;
  int head_idx = 0;
  int position = 0;
};

__device__ __forceinline__ Column ColumnAt(const AttentionParams& params, const QueryTile& tile,
                                           int column_idx) {
  const int column = tile.first_column + column_idx;
  const int query_idx = column / params.group_heads;
  const int first_row = params.batch.first_row(tile.sequence_idx);
  const int num_queries = params.batch.num_queries(tile.sequence_idx);
  return {.row = first_row + query_idx,
          .head_idx = tile.kv_head_idx * params.group_heads + column % params.group_heads,
          .position = params.batch.context_length[tile.sequence_idx] - num_queries + query_idx};
}

// Walks over the tiles of the chunks of a batch, whole warps at a time. Tiles are counted over the
// sequences in order, of each the last tile first, as it takes longest; indices must ascend.
class ChunkTiles {
 public:
  __device__ __forceinline__ ChunkTiles(const AttentionParams& params, int columns)
      : params_(params), columns_(columns) {}

  // Tile `tile_idx`, the same in every lane; its sequence is -1 past the last.
  __device__ QueryTile Find(int tile_idx, int kv_head_idx) {
    constexpr unsigned kAllLanes = 0xffffffffu;
    constexpr int kWarpLanes = 32;
    const int lane_idx = static_cast<int>(threadIdx.x) % kWarpLanes;
    const DeviceBatch& batch = params_.batch;
    for (; first_sequence_ < batch.num_sequences; first_sequence_ += kWarpLanes) {
      const int candidate = first_sequence_ + lane_idx;
      int num_tiles = 0;
      if (candidate < batch.num_sequences) {
        const int num_queries = batch.num_queries(candidate);
        if (num_queries > 1) {
          num_tiles = (num_queries * params_.group_heads + columns_ - 1) / columns_;
        }
      }
      int inclusive = num_tiles;
#pragma unroll
      for (int distance = 1; distance < kWarpLanes; distance *= 2) {
        const int below = __shfl_up_sync(kAllLanes, inclusive, distance);
        if (lane_idx >= distance) inclusive += below;
      }
      const int num_after = inclusive - (tile_idx - num_before_);  // Up to the sequence's end.
      const unsigned owners = __ballot_sync(kAllLanes, num_after >= 1 && num_after <= num_tiles);
      if (owners != 0) {
        const int owner = __ffs(static_cast<int>(owners)) - 1;
        return TileOfSequence(params_, columns_, first_sequence_ + owner,
                              __shfl_sync(kAllLanes, num_after, owner) - 1, kv_head_idx);
      }
      num_before_ += __shfl_sync(kAllLanes, inclusive, kWarpLanes - 1);
    }
    return {};
  }

 private:
  const AttentionParams& params_;
  const int columns_;
  int first_sequence_ = 0;  // Those before it have num_before_ tiles, all behind us.
  int num_before_ = 0;
};

}  // namespace comet::cuda
