#pragma once

#include <cstdint>

#include "kernels/base/math.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet::cuda {

// BatchView as a kernel reads it.
struct DeviceBatch {
  const int* query_start;
  const int* context_length;
  const int* page_table;
  int64_t page_table_stride;
  int num_sequences;
  int num_tokens;
  bool is_one_token_each;  // Then row r is sequence r.

  __device__ __forceinline__ int first_row(int sequence_idx) const {
    return is_one_token_each ? sequence_idx : query_start[sequence_idx];
  }
  __device__ __forceinline__ int num_queries(int sequence_idx) const {
    return is_one_token_each ? 1 : query_start[sequence_idx + 1] - query_start[sequence_idx];
  }
  __device__ __forceinline__ int PageId(int sequence_idx, int page_idx) const {
    return page_table[sequence_idx * page_table_stride + page_idx];
  }
};

inline DeviceBatch MakeDeviceBatch(const BatchView& batch) {
  return {.query_start = batch.query_start.as<int>(),
          .context_length = batch.context_length.as<int>(),
          .page_table = batch.page_table.as<int>(),
          .page_table_stride = batch.page_table.stride(0),
          .num_sequences = batch.num_sequences(),
          .num_tokens = batch.num_tokens,
          .is_one_token_each =
              batch.query_length_max == 1 && batch.num_tokens == batch.num_sequences()};
}

struct TokenPlace {
  int sequence_idx = 0;
  int position = 0;
};

// The sequence and the position of a token row, for a whole warp that asks for one row: the last
// sequence that starts at or before it. Each round tries 32 starts at once.
__device__ __forceinline__ TokenPlace FindToken(const DeviceBatch& batch, int token_row) {
  constexpr int kLanes = 32;
  if (batch.is_one_token_each) return {token_row, batch.context_length[token_row] - 1};
  const int lane_idx = static_cast<int>(threadIdx.x) % kLanes;
  int first = 0;  // Of `count` sequences left, of which the first starts at or before the row.
  int count = batch.num_sequences;
  while (count > 1) {
    const int step = CeilDiv(count, kLanes);
    const int offset = lane_idx * step;
    const bool is_before = offset < count && batch.query_start[first + offset] <= token_row;
    const int last = (31 - __clz(static_cast<int>(__ballot_sync(~0u, is_before)))) * step;
    first += last;
    count = min(step, count - last);
  }
  const int num_after = batch.query_start[first + 1] - token_row;
  return {first, batch.context_length[first] - num_after};
}

}  // namespace comet::cuda
