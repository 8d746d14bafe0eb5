#include "tests/kernels/kv_rig.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/base/math.h"

namespace comet {
namespace {

void CopyRow(HostTensor& to, int to_row, const HostTensor& from, int from_row) {
  for (int j = 0; j < from.dim(1); ++j) to.Set(to_row, j, from.At(from_row, j));
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const KvCase& c) {
  return out << "K" << c.format.k_bits << " V" << c.format.v_bits << " heads " << c.num_heads << "/"
             << c.num_kv_heads << " head_dim " << c.head_dim << " rotary " << c.rotary_dim
             << " hadamard " << c.hadamard << " " << ToString(c.dtype) << " window " << c.window;
}

KvRig::KvRig(Ops& ops, const KvCase& c, const std::vector<int>& sequence_lengths)
    : ops_(ops), case_(c) {
  const int num_qkv = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim;
  int num_pages = 0;
  int length_max = 0;
  for (size_t s = 0; s < sequence_lengths.size(); ++s) {
    const int length = sequence_lengths[s];
    Random random(100 + s);
    Sequence sequence;
    sequence.qkv = HostTensor(c.dtype, {length, num_qkv});
    sequence.qkv.FillNormal(random, 1.0f);
    sequence.queries = HostTensor(c.dtype, {length, c.num_heads * c.head_dim});
    sequence.outputs = HostTensor(c.dtype, {length, c.num_heads * c.head_dim});
    // Pages go round among the sequences, backwards, so that none are neighbours.
    for (int i = 0; i < CeilDiv(length, kPageTokens); ++i) sequence.pages.push_back(num_pages++);
    num_pages_max_ = std::max(num_pages_max_, static_cast<int>(sequence.pages.size()));
    length_max = std::max(length_max, length);
    sequences_.push_back(std::move(sequence));
  }
  for (Sequence& sequence : sequences_) {
    for (int& page : sequence.pages) page = num_pages - 1 - page;
  }
  const int page_bytes = static_cast<int>(ops.KvPageBytes(c.format, c.num_kv_heads, c.head_dim));
  pages_ = HostTensor(DType::kU8, {num_pages, page_bytes}, kPageAlignment);
  cos_ = HostTensor(DType::kF32, {length_max, c.rotary_dim / 2});
  sin_ = HostTensor(DType::kF32, {length_max, c.rotary_dim / 2});
  for (int p = 0; p < length_max; ++p) {
    for (int i = 0; i < c.rotary_dim / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / c.rotary_dim);
      cos_.Set(p, i, std::cos(angle));
      sin_.Set(p, i, std::sin(angle));
    }
  }
}

KvCacheView KvRig::cache() {
  return {.pages = pages_.view(),
          .format = case_.format,
          .num_kv_heads = case_.num_kv_heads,
          .head_dim = case_.head_dim};
}

void KvRig::Step(const std::vector<KvChunk>& chunks, bool attends) {
  const Batch batch = MakeBatch(chunks);
  HostTensor q(case_.dtype, {batch.view.num_tokens, case_.num_heads * case_.head_dim},
               case_.row_padding);
  Append(chunks, batch.view, q);
  if (attends && !::testing::Test::HasFatalFailure()) Attend(chunks, batch.view, q);
}

KvRig::Batch KvRig::MakeBatch(const std::vector<KvChunk>& chunks) const {
  const int num_sequences = static_cast<int>(chunks.size());
  Batch batch;
  batch.page_table = HostTensor(DType::kI32, {num_sequences, num_pages_max_ + 1}, 2);
  std::vector<int32_t> query_start = {0};
  std::vector<int32_t> context_length;
  for (int i = 0; i < num_sequences; ++i) {
    const KvChunk& chunk = chunks[static_cast<size_t>(i)];
    const int query_length = chunk.end - chunk.begin;
    query_start.push_back(query_start.back() + query_length);
    context_length.push_back(chunk.end);
    batch.view.query_length_max = std::max(batch.view.query_length_max, query_length);
    batch.view.context_length_max = std::max(batch.view.context_length_max, chunk.end);
    const std::vector<int>& pages = At(chunk.sequence_idx).pages;
    for (int page = 0; page <= num_pages_max_; ++page) {
      // Entries past the context are never read.
      const bool is_used = page * kPageTokens < chunk.end;
      batch.page_table.Set(i, page, is_used ? pages[static_cast<size_t>(page)] : -1);
    }
  }
  batch.query_start = HostTensor::OfInts(query_start);
  batch.context_length = HostTensor::OfInts(context_length);
  batch.view.query_start = batch.query_start.view();
  batch.view.context_length = batch.context_length.view();
  batch.view.page_table = batch.page_table.view();
  batch.view.num_tokens = query_start.back();
  return batch;
}

template <typename Fn>
void KvRig::ForTokens(const std::vector<KvChunk>& chunks, const Fn& fn) {
  int row = 0;
  for (const KvChunk& chunk : chunks) {
    for (int p = chunk.begin; p < chunk.end; ++p) {
      fn(sequences_[static_cast<size_t>(chunk.sequence_idx)], p, row++);
    }
  }
}

void KvRig::Append(const std::vector<KvChunk>& chunks, const BatchView& batch, HostTensor& q) {
  HostTensor qkv(case_.dtype, {batch.num_tokens, sequences_[0].qkv.dim(1)}, case_.row_padding);
  ForTokens(chunks,
            [&](Sequence& sequence, int p, int row) { CopyRow(qkv, row, sequence.qkv, p); });

  ASSERT_EQ(ops_.RopeAppend({.q_out = q.view(),
                             .cache = cache(),
                             .qkv = qkv.view(),
                             .cos = cos_.view(),
                             .sin = sin_.view(),
                             .batch = batch,
                             .num_heads = case_.num_heads,
                             .hadamard = case_.hadamard}),
            Status::Ok());
  ForTokens(chunks,
            [&](Sequence& sequence, int p, int row) { CopyRow(sequence.queries, p, q, row); });
  EXPECT_TRUE(q.GuardsAreIntact() && qkv.GuardsAreIntact() && pages_.GuardsAreIntact());
}

void KvRig::Attend(const std::vector<KvChunk>& chunks, const BatchView& batch,
                   const HostTensor& q) {
  HostTensor out(case_.dtype, {batch.num_tokens, q.dim(1)}, case_.row_padding);
  const int64_t scratch_bytes =
      has_scratch_ ? ops_.AttentionScratchBytes(batch.context_length_max, case_.head_dim) : 0;
  HostTensor scratch(DType::kU8, {static_cast<int>(scratch_bytes)});
  ASSERT_EQ(ops_.Attention({.out = out.view(),
                            .q = q.view(),
                            .cache = cache(),
                            .batch = batch,
                            .scratch = scratch_bytes > 0 ? scratch.view() : TensorView(),
                            .num_heads = case_.num_heads,
                            .softmax_scale = 1.0f / std::sqrt(static_cast<float>(case_.head_dim)),
                            .window = case_.window}),
            Status::Ok());
  ForTokens(chunks,
            [&](Sequence& sequence, int p, int row) { CopyRow(sequence.outputs, p, out, row); });
  EXPECT_TRUE(out.GuardsAreIntact() && q.GuardsAreIntact() && scratch.GuardsAreIntact());
}

}  // namespace comet
