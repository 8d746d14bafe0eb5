#include "kernels/ops/rope_append.h"

#include <span>
#include <vector>

#include "kernels/reference/elements.h"
#include "kernels/reference/hadamard.h"
#include "kernels/reference/kv_page.h"
#include "kernels/reference/reference_ops.h"

namespace comet {
namespace {

void Rotate(std::span<float> x, const RopeAppendArgs& args, int position) {
  const size_t num_pairs = static_cast<size_t>(args.cos.dim(1));
  for (size_t i = 0; i < num_pairs; ++i) {
    const float c = reference::LoadFloat(args.cos, position, static_cast<int>(i));
    const float s = reference::LoadFloat(args.sin, position, static_cast<int>(i));
    const float a = x[i];
    const float b = x[i + num_pairs];
    x[i] = a * c - b * s;
    x[i + num_pairs] = b * c + a * s;
  }
}

// Head `head_idx` of q | k | v of token row r.
std::vector<float> LoadHead(const RopeAppendArgs& args, int r, int head_idx) {
  std::vector<float> head(static_cast<size_t>(args.cache.head_dim));
  for (int d = 0; d < args.cache.head_dim; ++d) {
    head[static_cast<size_t>(d)] =
        reference::LoadFloat(args.qkv, r, head_idx * args.cache.head_dim + d);
  }
  return head;
}

void AppendToken(const RopeAppendArgs& args, int r, int position, int page_id) {
  const int num_kv_heads = args.cache.num_kv_heads;
  for (int h = 0; h < args.num_heads + num_kv_heads; ++h) {
    std::vector<float> head = LoadHead(args, r, h);
    Rotate(head, args, position);
    if (args.hadamard) reference::Hadamard(head);
    if (h >= args.num_heads) {
      reference::WriteKvRow(args.cache,
                            {.side = reference::KvSide::kKey,
                             .page_id = page_id,
                             .kv_head_idx = h - args.num_heads,
                             .token_idx = position % kPageTokens},
                            head);
      continue;
    }
    for (int d = 0; d < args.cache.head_dim; ++d) {
      reference::StoreFloat(args.q_out, r, h * args.cache.head_dim + d,
                            head[static_cast<size_t>(d)]);
    }
  }
  for (int h = 0; h < num_kv_heads; ++h) {
    reference::WriteKvRow(args.cache,
                          {.side = reference::KvSide::kValue,
                           .page_id = page_id,
                           .kv_head_idx = h,
                           .token_idx = position % kPageTokens},
                          LoadHead(args, r, args.num_heads + num_kv_heads + h));
  }
}

}  // namespace

Status ReferenceOps::RopeAppend(const RopeAppendArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  COMET_RETURN_IF_ERROR(
      Validate("rope_append", args.cache,
               KvPageBytes(args.cache.format, args.cache.num_kv_heads, args.cache.head_dim)));
  const BatchView& batch = args.batch;
  for (int s = 0; s < batch.num_sequences(); ++s) {
    const int row_end = reference::LoadInt(batch.query_start, s + 1);
    for (int r = reference::LoadInt(batch.query_start, s); r < row_end; ++r) {
      const int position = reference::LoadInt(batch.context_length, s) - (row_end - r);
      const int32_t* pages = batch.page_table.as<int32_t>() + s * batch.page_table.stride(0);
      AppendToken(args, r, position, pages[position / kPageTokens]);
    }
  }
  return Status::Ok();
}

}  // namespace comet
