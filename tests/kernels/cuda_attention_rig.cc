#include "tests/kernels/cuda_attention_rig.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "kernels/cuda/bench/random_fill.h"

namespace comet {
namespace {

constexpr int kAppendTokensMax = 4096;
constexpr int kQueryStride = 8;  // Halves between rows of q and out, beyond their channels.

void Check(const Status& status) { COMET_CHECK_MSG(status.ok(), status.message()); }

void Upload(CudaDevice& device, DeviceBuffer& buffer, const std::vector<int>& values) {
  const int64_t num_bytes = static_cast<int64_t>(values.size() * sizeof(int));
  if (buffer.num_bytes() < num_bytes) buffer = device.Allocate(num_bytes).value();
  Check(device.CopyToDevice(buffer.data(), values.data(), num_bytes));
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const LargeAttentionCase& c) {
  out << "K" << c.format.k_bits << " V" << c.format.v_bits << " heads " << c.num_heads << "/"
      << c.num_kv_heads << "x" << c.head_dim << " window " << c.window << ",";
  for (size_t s = 0; s < std::min<size_t>(4, c.sequences.size()); ++s) {
    out << " " << c.sequences[s].num_queries << " of " << c.sequences[s].context_length;
  }
  return out << " ... (" << c.sequences.size() << ")";
}

CudaAttentionRig::CudaAttentionRig(CudaDevice& device, Ops& ops, const LargeAttentionCase& c,
                                   uint64_t seed)
    : device_(device), case_(c), starts_{0} {
  int length_max = 0;
  for (const AttentionSequence& sequence : c.sequences) {
    starts_.push_back(starts_.back() + sequence.num_queries);
    length_max = std::max(length_max, sequence.context_length);
    num_pages_ += CeilDiv(sequence.context_length, kPageTokens);
  }
  pages_max_ = CeilDiv(length_max, kPageTokens);
  page_bytes_ = ops.KvPageBytes(c.format, c.num_kv_heads, c.head_dim);
  pages_ = device.Allocate(num_pages_ * page_bytes_).value();
  // What no token has written may hold anything.
  const std::vector<uint8_t> poison(static_cast<size_t>(page_bytes_), 0xff);
  for (int i = 0; i < num_pages_; ++i) {
    Check(device.CopyToDevice(static_cast<std::byte*>(pages_.data()) + i * page_bytes_,
                              poison.data(), page_bytes_));
  }

  std::vector<int> pages(static_cast<size_t>(num_pages_));
  std::iota(pages.begin(), pages.end(), 0);
  Random random(seed);
  for (size_t i = pages.size() - 1; i > 0; --i) {
    std::swap(pages[i], pages[static_cast<size_t>(random.NextInt(static_cast<int>(i) + 1))]);
  }
  std::vector<int> table(c.sequences.size() * static_cast<size_t>(pages_max_), 0x7fffffff);
  size_t next_page = 0;
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const int num_pages = CeilDiv(c.sequences[s].context_length, kPageTokens);
    for (int i = 0; i < num_pages; ++i) {
      table[s * static_cast<size_t>(pages_max_) + static_cast<size_t>(i)] = pages[next_page++];
    }
  }
  Upload(device, page_table_, table);

  const int64_t q_bytes = int64_t{starts_.back()} * (num_q_channels() + kQueryStride) * 2;
  q_ = device.Allocate(q_bytes).value();
  out_ = device.Allocate(q_bytes).value();
  Check(cuda::FillRandom(device, q_.data(), q_bytes, cuda::FillKind::kF16, seed + 1));
  scratch_ = device.Allocate(ops.AttentionScratchBytes(length_max, c.head_dim)).value();
  FillCache(ops);
}

KvCacheView CudaAttentionRig::cache() const {
  return {
      .pages = TensorView(pages_.data(), DType::kU8, {num_pages_, static_cast<int>(page_bytes_)}),
      .format = case_.format,
      .num_kv_heads = case_.num_kv_heads,
      .head_dim = case_.head_dim};
}

void CudaAttentionRig::FillCache(Ops& ops) {
  const int num_channels = (case_.num_heads + 2 * case_.num_kv_heads) * case_.head_dim;
  const int64_t qkv_bytes = int64_t{kAppendTokensMax} * num_channels * 2;
  const DeviceBuffer qkv = device_.Allocate(qkv_bytes).value();
  const int num_pairs = case_.head_dim / 2;
  const int length_max = pages_max_ * kPageTokens;
  std::vector<float> table(static_cast<size_t>(length_max) * num_pairs, 0.8f);
  const int64_t table_bytes = static_cast<int64_t>(table.size() * sizeof(float));
  const DeviceBuffer cos = device_.Allocate(table_bytes).value();
  Check(device_.CopyToDevice(cos.data(), table.data(), table_bytes));
  std::fill(table.begin(), table.end(), 0.6f);
  const DeviceBuffer sin = device_.Allocate(table_bytes).value();
  Check(device_.CopyToDevice(sin.data(), table.data(), table_bytes));
  for (int s = 0; s < num_sequences(); ++s) {
    const int length = case_.sequences[static_cast<size_t>(s)].context_length;
    for (int begin = 0; begin < length; begin += kAppendTokensMax) {
      const int end = std::min(begin + kAppendTokensMax, length);
      const int num_tokens = end - begin;
      Check(cuda::FillRandom(device_, qkv.data(), int64_t{num_tokens} * num_channels * 2,
                             cuda::FillKind::kF16, static_cast<uint64_t>(1000 * s + begin)));
      Upload(device_, query_start_, {0, num_tokens});
      Upload(device_, context_length_, {end});
      TensorShape q_shape{num_tokens, num_q_channels()};  // In place.
      q_shape.set_stride(0, num_channels);
      int* row = static_cast<int*>(page_table_.data()) + int64_t{s} * pages_max_;
      Check(ops.RopeAppend(
          {.q_out = TensorView(qkv.data(), DType::kF16, q_shape),
           .cache = cache(),
           .qkv = TensorView(qkv.data(), DType::kF16, {num_tokens, num_channels}),
           .cos = TensorView(cos.data(), DType::kF32, {length_max, num_pairs}),
           .sin = TensorView(sin.data(), DType::kF32, {length_max, num_pairs}),
           .batch = {.query_start = TensorView(query_start_.data(), DType::kI32, {2}),
                     .context_length = TensorView(context_length_.data(), DType::kI32, {1}),
                     .page_table = TensorView(row, DType::kI32, {1, pages_max_}),
                     .num_tokens = num_tokens,
                     .context_length_max = end,
                     .query_length_max = num_tokens},
           .num_heads = case_.num_heads}));
      Check(device_.Synchronize());
    }
  }
}

AttentionArgs CudaAttentionRig::Args(int first, int end, int num_queries) {
  std::vector<int> starts = {0};
  std::vector<int> lengths;
  int length_max = 0;
  int queries_max = 0;
  for (int s = first; s < end; ++s) {
    const AttentionSequence& sequence = case_.sequences[static_cast<size_t>(s)];
    const int num = num_queries == 0 ? sequence.num_queries : num_queries;
    starts.push_back(starts.back() + num);
    lengths.push_back(sequence.context_length);
    length_max = std::max(length_max, sequence.context_length);
    queries_max = std::max(queries_max, num);
  }
  Upload(device_, query_start_, starts);
  Upload(device_, context_length_, lengths);
  const std::vector<uint8_t> poison(static_cast<size_t>(out_.num_bytes()), 0xff);
  Check(device_.CopyToDevice(out_.data(), poison.data(), out_.num_bytes()));
  num_rows_out_ = starts.back();
  const int num_sequences = end - first;
  // A part of one sequence's queries are its last ones.
  const int skipped =
      num_queries == 0 ? 0 : case_.sequences[static_cast<size_t>(first)].num_queries - num_queries;
  const int row_stride = num_q_channels() + kQueryStride;
  TensorShape shape{num_rows_out_, num_q_channels()};
  shape.set_stride(0, row_stride);
  auto* q = static_cast<uint16_t*>(q_.data()) + int64_t{first_row(first) + skipped} * row_stride;
  int* table = static_cast<int*>(page_table_.data()) + int64_t{first} * pages_max_;
  return {
      .out = TensorView(out_.data(), DType::kF16, shape),
      .q = TensorView(q, DType::kF16, shape),
      .cache = cache(),
      .batch = {.query_start = TensorView(query_start_.data(), DType::kI32, {num_sequences + 1}),
                .context_length = TensorView(context_length_.data(), DType::kI32, {num_sequences}),
                .page_table = TensorView(table, DType::kI32, {num_sequences, pages_max_}),
                .num_tokens = num_rows_out_,
                .context_length_max = length_max,
                .query_length_max = queries_max},
      .scratch = TensorView(scratch_.data(), DType::kU8, {static_cast<int>(scratch_.num_bytes())}),
      .num_heads = case_.num_heads,
      .softmax_scale = 1.0f / std::sqrt(static_cast<float>(case_.head_dim)),
      .window = case_.window};
}

std::vector<uint16_t> CudaAttentionRig::DownloadOut() {
  const size_t row_stride = static_cast<size_t>(num_q_channels() + kQueryStride);
  std::vector<uint16_t> strided(static_cast<size_t>(num_rows_out_) * row_stride);
  Check(device_.CopyToHost(strided.data(), out_.data(), static_cast<int64_t>(strided.size() * 2)));
  std::vector<uint16_t> rows;
  for (int row = 0; row < num_rows_out_; ++row) {
    const auto first = strided.begin() + static_cast<int64_t>(row * row_stride);
    rows.insert(rows.end(), first, first + num_q_channels());
    // Between rows nothing is written.
    COMET_CHECK(std::all_of(first + num_q_channels(), first + static_cast<int64_t>(row_stride),
                            [](uint16_t half) { return half == 0xffff; }));
  }
  return rows;
}

}  // namespace comet
