#pragma once

#include <cstdint>

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"

namespace comet {

inline constexpr int kPageTokens = 64;     // Tokens of one KV-cache page.
inline constexpr int kGroupTokens = 256;   // Unit of attention's arithmetic, at absolute positions.
inline constexpr int kPageAlignment = 16;  // Bytes, of every page's first one.

// How one layer's keys and values are held.
//   4   asymmetric codes 0..15 per (token, KV head): fp16 (s, m), x ~ s * q + m
//   8   the same with codes 0..255
//   16  fp16     32  fp32 (exactness tests against a float oracle)
// Quantising a row x of head_dim: lo = min, hi = max; s = Half((hi - lo) / (2^bits - 1)),
// m = Half(lo); q = clamp(round_half_even((x - m) / s)); s = 0 (a constant row) gives q = 0. All in
// fp32 but the two roundings to fp16, single IEEE operations. Reading gives (s * q) + m in fp32. A
// row with a NaN or infinity, or whose s or m overflows fp16, has s = m = NaN and codes 0.
struct KvFormat {
  int k_bits = 4;
  int v_bits = 4;
  friend bool operator==(const KvFormat&, const KvFormat&) = default;
};

Status Validate(const KvFormat& format);

// One layer's share of the page pool, in the back end's own layout inside a page. A page holds
// kPageTokens tokens of every KV head: pages [num_pages, page_bytes] u8 with page_bytes =
// Ops::KvPageBytes(); pages may be strided and start at multiples of kPageAlignment bytes.
struct KvCacheView {
  TensorView pages;
  KvFormat format;
  int num_kv_heads = 0;
  int head_dim = 0;
};

// Checks the shape and alignment of the pages; `page_bytes` is the back end's Ops::KvPageBytes().
Status Validate(const char* op, const KvCacheView& cache, int64_t page_bytes);
// Checks format, head counts and head_dim (even), before KvPageBytes() is asked.
Status ValidateHeads(const char* op, const KvCacheView& cache, int num_heads);

// Where the tokens of one step belong. Sequence s owns the token rows
// [query_start[s], query_start[s + 1]), at the last positions of its context:
// row r has position context_length[s] - (query_start[s + 1] - r).
// Page i of sequence s is page_table[s, i] and holds positions [64 i, 64 i + 64); entries past the
// context are never followed. No op writes any of it: ops may read it while those ahead still run.
struct BatchView {
  ConstTensorView query_start;     // [num_sequences + 1] i32, ascending from 0
  ConstTensorView context_length;  // [num_sequences] i32, this step's tokens included
  ConstTensorView page_table;      // [num_sequences, pages_max] i32, rows may be strided
  int num_tokens = 0;              // query_start[num_sequences], known to the host
  int context_length_max = 0;      // Largest context_length, known to the host
  int query_length_max = 0;        // Most token rows of one sequence, known to the host

  int num_sequences() const { return context_length.dim(0); }
};

Status Validate(const char* op, const BatchView& batch);

}  // namespace comet
