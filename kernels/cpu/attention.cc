#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/kv_page.h"

namespace comet {
namespace {

// Queries of one item: their group's heads share 256 dequantised keys and values. Larger tiles save
// little more and leave threads idle.
constexpr int kTileQueries = 16;

}  // namespace

Status CpuOps::Attention(const AttentionArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const KvCacheView& cache = args.cache;
  COMET_RETURN_IF_ERROR(
      Validate("attention", cache, KvPageBytes(cache.format, cache.num_kv_heads, cache.head_dim)));
  if (args.batch.num_tokens == 0) return Status::Ok();
  const cpu::KvHeadLayout layout = cpu::MakeKvHeadLayout(cache.format, cache.head_dim);
  PlanAttention(args);
  pool().ParallelFor(static_cast<int>(attention_items_.size()), [&](int item_idx, int thread_idx) {
    AttendItem(args, layout, attention_items_[static_cast<size_t>(item_idx)],
               scratch_[static_cast<size_t>(thread_idx)]);
  });
  return Status::Ok();
}

void CpuOps::PlanAttention(const AttentionArgs& args) {
  attention_items_.clear();
  const int32_t* query_start = args.batch.query_start.as<int32_t>();
  for (int s = 0; s < args.batch.num_sequences(); ++s) {
    const int context_length = args.batch.context_length.as<int32_t>()[s];
    for (int r = query_start[s]; r < query_start[s + 1]; r += kTileQueries) {
      for (int h = 0; h < args.cache.num_kv_heads; ++h) {
        attention_items_.push_back({.sequence_idx = s,
                                    .kv_head_idx = h,
                                    .first_row = r,
                                    .num_rows = std::min(kTileQueries, query_start[s + 1] - r),
                                    .first_position = context_length - (query_start[s + 1] - r)});
      }
    }
  }
  // The longest first, so that the threads end together.
  std::sort(attention_items_.begin(), attention_items_.end(),
            [](const AttentionItem& a, const AttentionItem& b) {
              return a.first_position > b.first_position;
            });
}

void CpuOps::AttendItem(const AttentionArgs& args, const cpu::KvHeadLayout& layout,
                        const AttentionItem& item, ThreadScratch& scratch) const {
  const int head_dim = layout.head_dim;
  const int group_heads = args.num_heads / args.cache.num_kv_heads;
  const int num_rows = item.num_rows * group_heads;
  const int num_pages = CeilDiv(item.first_position + item.num_rows, kPageTokens);

  const ConstTensorView& table = args.batch.page_table;
  const int32_t* pages = table.as<int32_t>() + item.sequence_idx * table.stride(0);
  const uint8_t** heads = scratch.heads.Get(num_pages);
  for (int i = 0; i < num_pages; ++i) {
    COMET_CHECK(pages[i] >= 0 && pages[i] < args.cache.pages.dim(0));
    heads[i] = args.cache.pages.as<uint8_t>() + pages[i] * args.cache.pages.stride(0) +
               item.kv_head_idx * layout.head_bytes;
  }

  // Row (query, head of the group), so that positions ascend.
  float* queries = scratch.queries.Get(int64_t{num_rows} * head_dim);
  int32_t* num_visible = scratch.num_visible.Get(num_rows);
  const int first_column = item.kv_head_idx * group_heads * head_dim;
  for (int i = 0; i < item.num_rows; ++i) {
    LoadRow(args.q, item.first_row + i, first_column, group_heads * head_dim,
            queries + i * group_heads * head_dim);
    std::fill_n(num_visible + i * group_heads, group_heads, item.first_position + i + 1);
  }

  float* out = scratch.outputs.Get(int64_t{num_rows} * layout.value_width);
  // Logits and outputs of one row tile, then each row's running max and sum.
  const int64_t logits_size = int64_t{cpu::kRowTile} * kGroupTokens;
  const int64_t group_out_size = int64_t{cpu::kRowTile} * layout.value_width;
  float* state = scratch.state.Get(logits_size + group_out_size + 2 * int64_t{num_rows});
  kernels_.attend({.layout = &layout,
                   .heads = heads,
                   .q = queries,
                   .num_visible = num_visible,
                   .num_rows = num_rows,
                   .window = args.window,
                   .softmax_scale = args.softmax_scale,
                   .out = out,
                   .keys = scratch.keys.Get(int64_t{head_dim} * kGroupTokens),
                   .values = scratch.values.Get(int64_t{layout.value_width} * kGroupTokens),
                   .logits = state,
                   .group_out = state + logits_size,
                   .max = state + logits_size + group_out_size,
                   .sum = state + logits_size + group_out_size + num_rows});

  for (int row = 0; row < num_rows; ++row) {
    StoreRow(args.out, item.first_row + row / group_heads,
             first_column + row % group_heads * head_dim, head_dim, out + row * layout.value_width);
  }
}

}  // namespace comet
