#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/kv_cache_view.h"

namespace comet::reference {

// A page as [num_kv_heads][K, V][kPageTokens] rows, each row one token's head: head_dim codes
// (nibble pairs, bytes, halves or floats), then fp16 s and m where the format has them.
int64_t PageBytes(const KvFormat& format, int num_kv_heads, int head_dim);

enum class KvSide { kKey, kValue };

// Names one row of the cache.
struct KvRow {
  KvSide side = KvSide::kKey;
  int page_id = 0;
  int kv_head_idx = 0;
  int token_idx = 0;  // In the page.
};

// Stores x through the cache's format, and reads it back as stored. x has head_dim values.
void WriteKvRow(const KvCacheView& cache, const KvRow& row, std::span<const float> x);
void ReadKvRow(const KvCacheView& cache, const KvRow& row, std::span<float> x);

}  // namespace comet::reference
