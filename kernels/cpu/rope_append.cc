#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/hadamard.h"
#include "kernels/cpu/kv_page.h"

namespace comet {
namespace {

void Rotate(float* x, const float* cos, const float* sin, int num_pairs) {
  for (int i = 0; i < num_pairs; ++i) {
    const float a = x[i];
    const float b = x[i + num_pairs];
    x[i] = a * cos[i] - b * sin[i];
    x[i + num_pairs] = b * cos[i] + a * sin[i];
  }
}

}  // namespace

Status CpuOps::RopeAppend(const RopeAppendArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const KvCacheView& cache = args.cache;
  COMET_RETURN_IF_ERROR(Validate("rope_append", cache,
                                 KvPageBytes(cache.format, cache.num_kv_heads, cache.head_dim)));
  if (args.batch.num_tokens == 0) return Status::Ok();
  const cpu::KvHeadLayout layout = cpu::MakeKvHeadLayout(cache.format, cache.head_dim);
  // An item is one head of one sequence: two tokens of a page share bytes of a four-bit key
  // channel, so one thread stores all of them.
  const int num_heads = args.num_heads + 2 * cache.num_kv_heads;
  const int num_items = args.batch.num_sequences() * num_heads;
  // A head of a token takes about a tenth of a microsecond; a few are not worth waking a worker.
  constexpr int kHeadsInline = 64;
  const auto append = [&](int item_idx, int thread_idx) {
    AppendHead(args, layout, item_idx / num_heads, item_idx % num_heads,
               scratch_[static_cast<size_t>(thread_idx)]);
  };
  if (args.batch.num_tokens * num_heads <= kHeadsInline) {
    for (int i = 0; i < num_items; ++i) append(i, 0);
  } else {
    pool().ParallelFor(num_items, append);
  }
  return Status::Ok();
}

void CpuOps::AppendHead(const RopeAppendArgs& args, const cpu::KvHeadLayout& layout,
                        int sequence_idx, int head_idx, ThreadScratch& scratch) const {
  const BatchView& batch = args.batch;
  const int head_dim = layout.head_dim;
  const int num_kv_heads = args.cache.num_kv_heads;
  const int num_pairs = args.cos.dim(1);
  const bool is_query = head_idx < args.num_heads;
  const bool is_value = head_idx >= args.num_heads + num_kv_heads;
  const int kv_head_idx = (head_idx - args.num_heads) % num_kv_heads;
  const int32_t* pages = batch.page_table.as<int32_t>() + sequence_idx * batch.page_table.stride(0);
  const int32_t* query_start = batch.query_start.as<int32_t>() + sequence_idx;
  const int context_length = batch.context_length.as<int32_t>()[sequence_idx];
  float* head = scratch.row.Get(head_dim);
  uint8_t* codes = scratch.codes.Get(head_dim);
  for (int r = query_start[0]; r < query_start[1]; ++r) {
    const int position = context_length - (query_start[1] - r);
    LoadRow(args.qkv, r, head_idx * head_dim, head_dim, head);
    if (!is_value) {
      const int64_t offset = int64_t{position} * num_pairs;
      Rotate(head, args.cos.as<float>() + offset, args.sin.as<float>() + offset, num_pairs);
      if (args.hadamard) cpu::Hadamard(head, head_dim);
    }
    if (is_query) {
      StoreRow(args.q_out, r, head_idx * head_dim, head_dim, head);
      continue;
    }
    const int page_id = pages[position / kPageTokens];
    COMET_CHECK(page_id >= 0 && page_id < args.cache.pages.dim(0));
    uint8_t* kv_head = args.cache.pages.as<uint8_t>() + page_id * args.cache.pages.stride(0) +
                       kv_head_idx * layout.head_bytes;
    const auto store = is_value ? cpu::StoreValue : cpu::StoreKey;
    store(layout, kv_head, position % kPageTokens, head, codes);
  }
}

}  // namespace comet
