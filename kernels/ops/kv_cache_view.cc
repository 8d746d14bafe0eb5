#include "kernels/ops/kv_cache_view.h"

#include <algorithm>

#include "kernels/base/shape_check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

bool IsKvBits(int bits) { return bits == 4 || bits == 8 || bits == 16 || bits == 32; }

}  // namespace

Status Validate(const KvFormat& format) {
  ShapeCheck check("kv_format");
  check.Require(IsKvBits(format.k_bits), "k_bits is ", format.k_bits, ", expected 4, 8, 16 or 32");
  check.Require(IsKvBits(format.v_bits), "v_bits is ", format.v_bits, ", expected 4, 8, 16 or 32");
  return check.status();
}

Status Validate(const char* op, const KvCacheView& cache, int64_t page_bytes) {
  ShapeCheck check(op);
  Dim num_pages{"num_pages"};
  Dim bytes{"page_bytes", static_cast<int>(page_bytes)};
  check.Shape("cache.pages", cache.pages, {&num_pages, &bytes})
      .DTypeIn("cache.pages", cache.pages, {DType::kU8})
      .UnitStride("cache.pages", cache.pages);
  COMET_RETURN_IF_ERROR(check.status());
  check.Require(reinterpret_cast<uintptr_t>(cache.pages.data()) % kPageAlignment == 0 &&
                    cache.pages.stride(0) % kPageAlignment == 0,
                "a page of cache.pages does not start at a multiple of 16 bytes");
  return check.status();
}

Status ValidateHeads(const char* op, const KvCacheView& cache, int num_heads) {
  COMET_RETURN_IF_ERROR(Validate(cache.format));
  ShapeCheck check(op);
  check
      .Require(cache.num_kv_heads >= 1, "num_kv_heads is ", cache.num_kv_heads,
               ", expected at least 1")
      .Require(cache.head_dim >= 2 && cache.head_dim % 2 == 0, "head_dim is ", cache.head_dim,
               ", expected even and positive")
      .Require(num_heads >= 1 && num_heads % std::max(cache.num_kv_heads, 1) == 0, "num_heads is ",
               num_heads, ", expected a positive multiple of num_kv_heads ", cache.num_kv_heads);
  return check.status();
}

Status Validate(const char* op, const BatchView& batch) {
  ShapeCheck check(op);
  if (batch.context_length.rank() != 1) {
    return InvalidArgument(StrCat(op, ": batch.context_length has rank ",
                                  batch.context_length.rank(), ", expected 1"));
  }
  Dim num_sequences{"num_sequences", batch.num_sequences()};
  Dim num_starts{"num_sequences + 1", batch.num_sequences() + 1};
  Dim num_pages_max{"pages_max"};
  check.Shape("batch.context_length", batch.context_length, {&num_sequences})
      .Shape("batch.query_start", batch.query_start, {&num_starts})
      .Shape("batch.page_table", batch.page_table, {&num_sequences, &num_pages_max})
      .DTypeIn("batch.query_start", batch.query_start, {DType::kI32})
      .DTypeIn("batch.context_length", batch.context_length, {DType::kI32})
      .DTypeIn("batch.page_table", batch.page_table, {DType::kI32})
      .UnitStride("batch.query_start", batch.query_start)
      .UnitStride("batch.context_length", batch.context_length)
      .UnitStride("batch.page_table", batch.page_table);
  COMET_RETURN_IF_ERROR(check.status());
  const int64_t positions = int64_t{num_pages_max.value} * kPageTokens;
  check
      .Require(batch.num_tokens >= 0, "batch.num_tokens is ", batch.num_tokens,
               ", expected at least 0")
      .Require(batch.num_tokens == 0 || num_sequences.value > 0, "batch has tokens but no sequence")
      .Require(batch.context_length_max >= 0 && batch.context_length_max <= positions,
               "batch.context_length_max is ", batch.context_length_max, ", expected 0 to ",
               positions, " as batch.page_table")
      .Require(batch.num_tokens == 0 ||
                   (batch.query_length_max >= 1 && batch.query_length_max <= batch.num_tokens),
               "batch.query_length_max is ", batch.query_length_max, ", expected 1 to ",
               batch.num_tokens);
  return check.status();
}

}  // namespace comet
