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
  int pages_max;  // Of a row of the page table.
  int num_kv_heads;
  int group_heads;      // Query heads of a KV head, at most 8.
  int window;           // Positions that a column sees, its own the last.
  float softmax_scale;  // Times log2(e).
  float* units;         // Split: [tile, unit, word of AttentionState, thread]; else null.
  int units_max;        // Of a tile, in `units`.
  int split_units;      // Units of one item of work; all of them unless split.
  WorkCounters* work;
  uint32_t group_magic;  // 2^31 / group_heads, rounded up.

  // column / group_heads, for columns below 2^28.
  __device__ __forceinline__ int QueryOf(int column) const {
    return static_cast<int>(__umulhi(2u * static_cast<uint32_t>(column), group_magic));
  }
};

// A sequence whose step has one token is decoded, any other is a chunk. A query column is one
// token's head of a KV head's group, the heads of a token neighbours.
struct QueryTile {
  int sequence_idx = -1;  // -1: nothing to do.
  int first_row = 0;      // Of the sequence, in q and out.
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

// All of a sequence that has one token.
__device__ __forceinline__ QueryTile DecodeTile(const AttentionParams& params, int sequence_idx,
                                                int kv_head_idx) {
  const int num_positions = params.batch.context_length[sequence_idx];
  const int first_position = max(0, num_positions - params.window);
  return {.sequence_idx = sequence_idx,
          .first_row = params.batch.first_row(sequence_idx),
          .kv_head_idx = kv_head_idx,
          .num_columns = params.group_heads,
          .first_position = first_position,
          .num_positions = num_positions,
          .first_seen_by_all = first_position,
          .num_seen_by_all = num_positions};
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
  const int query_idx = params.QueryOf(column);
  return {
      .row = tile.first_row + query_idx,
      .head_idx = tile.kv_head_idx * params.group_heads + column - query_idx * params.group_heads,
      .position = tile.num_seen_by_all - 1 + query_idx - params.QueryOf(tile.first_column)};
}

// Walks over the tiles of the chunks of a batch, whole warps at a time. Tiles are counted over the
// sequences in order, of each the last tile first, as it takes longest; indices must ascend.
class ChunkTiles {
 public:
  __device__ __forceinline__ ChunkTiles(const AttentionParams& params, int columns)
      : params_(params), columns_(columns) {}

  // Tile `tile_idx`, the same in every lane; its sequence is -1 past the last.
  __device__ QueryTile Find(int tile_idx, int kv_head_idx) {
    for (; first_sequence_ < params_.batch.num_sequences; first_sequence_ += kLanes) {
      if (!is_loaded_) LoadSequences();
      const int num_after = inclusive_ - (tile_idx - num_before_);  // Up to the sequence's end.
      const unsigned owners = __ballot_sync(kAll, num_after >= 1 && num_after <= num_tiles_);
      if (owners != 0) {
        const int owner = __ffs(static_cast<int>(owners)) - 1;
        return MakeTile(owner, __shfl_sync(kAll, num_after, owner) - 1, kv_head_idx);
      }
      num_before_ += __shfl_sync(kAll, inclusive_, kLanes - 1);
      is_loaded_ = false;
    }
    return {};
  }

 private:
  static constexpr int kLanes = 32;
  static constexpr unsigned kAll = 0xffffffffu;

  // Each lane one sequence, kept while its tiles are asked for: memory is far away.
  __device__ __forceinline__ void LoadSequences() {
    const int lane_idx = static_cast<int>(threadIdx.x) % kLanes;
    const int sequence_idx = first_sequence_ + lane_idx;
    num_tiles_ = 0;
    if (sequence_idx < params_.batch.num_sequences) {
      first_row_ = params_.batch.first_row(sequence_idx);
      num_queries_ = params_.batch.num_queries(sequence_idx);
      context_length_ = params_.batch.context_length[sequence_idx];
      if (num_queries_ > 1) {
        num_tiles_ = (num_queries_ * params_.group_heads + columns_ - 1) / columns_;
      }
    }
    inclusive_ = num_tiles_;
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const int below = __shfl_up_sync(kAll, inclusive_, distance);
      if (lane_idx >= distance) inclusive_ += below;
    }
    is_loaded_ = true;
  }

  // Tile `tile_in_sequence` of lane `owner`'s sequence.
  __device__ __forceinline__ QueryTile MakeTile(int owner, int tile_in_sequence,
                                                int kv_head_idx) const {
    const int num_queries = __shfl_sync(kAll, num_queries_, owner);
    const int num_before = __shfl_sync(kAll, context_length_, owner) - num_queries;
    QueryTile tile;
    tile.sequence_idx = first_sequence_ + owner;
    tile.first_row = __shfl_sync(kAll, first_row_, owner);
    tile.kv_head_idx = kv_head_idx;
    tile.first_column = tile_in_sequence * columns_;
    tile.num_columns = min(columns_, num_queries * params_.group_heads - tile.first_column);
    const int last_query = params_.QueryOf(tile.first_column + tile.num_columns - 1);
    tile.num_positions = num_before + last_query + 1;
    tile.num_seen_by_all = num_before + params_.QueryOf(tile.first_column) + 1;
    tile.first_position = max(0, tile.num_seen_by_all - params_.window);
    tile.first_seen_by_all = max(0, tile.num_positions - params_.window);
    return tile;
  }

  const AttentionParams& params_;
  const int columns_;
  int first_sequence_ = 0;  // Those before it have num_before_ tiles, all behind us.
  int num_before_ = 0;
  // Of this lane's sequence, first_sequence_ + lane.
  bool is_loaded_ = false;
  int first_row_ = 0;
  int num_queries_ = 0;
  int context_length_ = 0;
  int num_tiles_ = 0;
  int inclusive_ = 0;  // Tiles up to its end, from first_sequence_'s on.
};

}  // namespace comet::cuda
