#include "kernels/ops/attention.h"

#include <algorithm>
#include <vector>

#include "kernels/base/exact_math.h"
#include "kernels/reference/elements.h"
#include "kernels/reference/kv_page.h"
#include "kernels/reference/reference_ops.h"

namespace comet {
namespace {

// One query of one head: its row and what it may see.
struct Query {
  int row = 0;
  int sequence_idx = 0;
  int head_idx = 0;
  int kv_head_idx = 0;
  int position = 0;
};

// The softmax state of the positions seen so far.
struct Partial {
  float max = 0.0f;
  float sum = 0.0f;
  std::vector<float> out;
};

std::vector<float> ReadRow(const AttentionArgs& args, const Query& query, reference::KvSide side,
                           int position) {
  const ConstTensorView& table = args.batch.page_table;
  const int32_t* pages = table.as<int32_t>() + query.sequence_idx * table.stride(0);
  std::vector<float> row(static_cast<size_t>(args.cache.head_dim));
  reference::ReadKvRow(args.cache,
                       {.side = side,
                        .page_id = pages[position / kPageTokens],
                        .kv_head_idx = query.kv_head_idx,
                        .token_idx = position % kPageTokens},
                       row);
  return row;
}

float Logit(const AttentionArgs& args, const Query& query, int position) {
  const std::vector<float> key = ReadRow(args, query, reference::KvSide::kKey, position);
  float dot = 0.0f;
  for (int d = 0; d < args.cache.head_dim; ++d) {
    const int column = query.head_idx * args.cache.head_dim + d;
    dot += reference::LoadFloat(args.q, query.row, column) * key[static_cast<size_t>(d)];
  }
  return args.softmax_scale * dot;
}

// The positions [begin, end) on their own.
Partial AttendGroup(const AttentionArgs& args, const Query& query, int begin, int end) {
  std::vector<float> logits;
  for (int p = begin; p < end; ++p) logits.push_back(Logit(args, query, p));
  Partial group;
  group.max = *std::max_element(logits.begin(), logits.end());
  group.out.assign(static_cast<size_t>(args.cache.head_dim), 0.0f);
  for (int p = begin; p < end; ++p) {
    const float weight = Exp(logits[static_cast<size_t>(p - begin)] - group.max);
    const std::vector<float> value = ReadRow(args, query, reference::KvSide::kValue, p);
    group.sum += weight;
    for (size_t d = 0; d < value.size(); ++d) group.out[d] += weight * value[d];
  }
  return group;
}

void Fold(Partial& state, const Partial& group) {
  const float max = std::max(state.max, group.max);
  const float state_factor = Exp(state.max - max);
  const float group_factor = Exp(group.max - max);
  state.max = max;
  state.sum = state.sum * state_factor + group.sum * group_factor;
  for (size_t d = 0; d < state.out.size(); ++d) {
    state.out[d] = state.out[d] * state_factor + group.out[d] * group_factor;
  }
}

void Attend(const AttentionArgs& args, const Query& query) {
  const int num_positions = query.position + 1;
  const int first = args.window == 0 ? 0 : std::max(0, num_positions - args.window);
  const int first_end = (first / kGroupTokens + 1) * kGroupTokens;
  Partial state = AttendGroup(args, query, first, std::min(first_end, num_positions));
  for (int begin = first_end; begin < num_positions; begin += kGroupTokens) {
    const int end = std::min(begin + kGroupTokens, num_positions);
    Fold(state, AttendGroup(args, query, begin, end));
  }
  for (int d = 0; d < args.cache.head_dim; ++d) {
    reference::StoreFloat(args.out, query.row, query.head_idx * args.cache.head_dim + d,
                          state.out[static_cast<size_t>(d)] / state.sum);
  }
}

}  // namespace

Status ReferenceOps::Attention(const AttentionArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  COMET_RETURN_IF_ERROR(
      Validate("attention", args.cache,
               KvPageBytes(args.cache.format, args.cache.num_kv_heads, args.cache.head_dim)));
  const BatchView& batch = args.batch;
  for (int s = 0; s < batch.num_sequences(); ++s) {
    const int row_end = reference::LoadInt(batch.query_start, s + 1);
    for (int r = reference::LoadInt(batch.query_start, s); r < row_end; ++r) {
      for (int h = 0; h < args.num_heads; ++h) {
        Attend(args, {.row = r,
                      .sequence_idx = s,
                      .head_idx = h,
                      .kv_head_idx = h / (args.num_heads / args.cache.num_kv_heads),
                      .position = reference::LoadInt(batch.context_length, s) - (row_end - r)});
      }
    }
  }
  return Status::Ok();
}

}  // namespace comet
