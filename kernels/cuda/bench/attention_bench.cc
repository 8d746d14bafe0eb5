#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "kernels/cuda/bench/bench_input.h"
#include "kernels/cuda/bench/product_bench.h"
#include "kernels/cuda/bench/random_fill.h"

namespace comet::cuda {
namespace {

constexpr int64_t kRotatedBytes = 200'000'000;  // Four times L2, so that no launch finds its cache.
constexpr int kLaunchesMin = 8;
constexpr int kAppendTokensMax = 8192;  // Of a call that fills the cache.
constexpr float kCos = 0.8f;            // Of every angle: times do not depend on it.
constexpr float kSin = 0.6f;

// The last `num_queries` tokens of sequences of one length, as the ops read them.
struct DeviceBatchRows {
  DeviceBuffer query_start;
  DeviceBuffer context_length;
};

Result<DeviceBatchRows> MakeRows(CudaDevice& device, int num_sequences, int context_length,
                                 int num_queries) {
  std::vector<int32_t> starts(static_cast<size_t>(num_sequences) + 1);
  for (int s = 0; s <= num_sequences; ++s) starts[static_cast<size_t>(s)] = s * num_queries;
  const std::vector<int32_t> lengths(static_cast<size_t>(num_sequences), context_length);
  DeviceBatchRows rows;
  COMET_ASSIGN_OR_RETURN(rows.query_start, Upload(device, starts));
  COMET_ASSIGN_OR_RETURN(rows.context_length, Upload(device, lengths));
  return rows;
}

// Copies of a cache of random keys and values, and queries.
class AttentionRig {
 public:
  // With caches of random keys and values, for Issue().
  static Result<AttentionRig> Create(const BenchContext& context, const AttentionCase& c) {
    COMET_ASSIGN_OR_RETURN(AttentionRig rig, CreateEmpty(context, c));
    CudaDevice& device = context.device;
    rig.scratch_bytes_ = context.ops.AttentionScratchBytes(c.context_length, c.head_dim);
    COMET_ASSIGN_OR_RETURN(rig.scratch_, device.Allocate(rig.scratch_bytes_));
    COMET_RETURN_IF_ERROR(rig.FillCaches());
    return rig;
  }

  // With keys and values to append, for IssueAppend().
  static Result<AttentionRig> CreateForAppend(const BenchContext& context, const AttentionCase& c) {
    COMET_ASSIGN_OR_RETURN(AttentionRig rig, CreateEmpty(context, c));
    COMET_RETURN_IF_ERROR(rig.AllocateAppend(static_cast<int>(rig.num_tokens())));
    return rig;
  }

  Status IssueAppend(int copy_idx) const {
    const int num_tokens = static_cast<int>(this->num_tokens());
    return context_->ops.RopeAppend(AppendArgs(
        TensorView(q_.data(), DType::kF16, {num_tokens, num_q_channels()}), copy_idx,
        BatchOf(rows_, 0, case_.num_sequences, case_.context_length, case_.num_queries)));
  }

  Status Issue(int copy_idx) const {
    const int num_tokens = static_cast<int>(this->num_tokens());
    return context_->ops.Attention(
        {.out = TensorView(out_.data(), DType::kF16, {num_tokens, num_q_channels()}),
         .q = TensorView(q_.data(), DType::kF16, {num_tokens, num_q_channels()}),
         .cache = CacheOf(copy_idx),
         .batch = BatchOf(rows_, 0, case_.num_sequences, case_.context_length, case_.num_queries),
         .scratch = TensorView(scratch_.data(), DType::kU8, {static_cast<int>(scratch_bytes_)}),
         .num_heads = case_.num_heads,
         .softmax_scale = 1.0f / std::sqrt(static_cast<float>(case_.head_dim)),
         .window = case_.window});
  }

  int num_copies() const { return num_copies_; }
  int64_t num_tokens() const { return int64_t{case_.num_sequences} * case_.num_queries; }
  // The visible part of the cache, once; queries and outputs are not counted.
  double num_bytes() const {
    const int first_position = case_.context_length - case_.num_queries;
    const int num_read = case_.window == 0
                             ? case_.context_length
                             : std::min(case_.context_length,
                                        case_.context_length - first_position + case_.window - 1);
    return static_cast<double>(page_bytes()) / kPageTokens * num_read * case_.num_sequences;
  }
  double num_append_bytes() const {
    const double row_bytes = (num_qkv_channels() + num_q_channels()) * BytesOf(DType::kF16);
    return static_cast<double>(num_tokens()) *
           (row_bytes + static_cast<double>(page_bytes()) / kPageTokens);
  }
  double num_ops() const {
    double num_pairs = 0;  // Of a query and a position it sees, per sequence and head.
    for (int i = 0; i < case_.num_queries; ++i) {
      const int num_seen = case_.context_length - i;
      num_pairs += case_.window == 0 ? num_seen : std::min(num_seen, case_.window);
    }
    return 4.0 * case_.head_dim * case_.num_heads * case_.num_sequences * num_pairs;
  }

 private:
  AttentionRig(const BenchContext& context, const AttentionCase& c)
      : context_(&context), case_(c) {}

  static Result<AttentionRig> CreateEmpty(const BenchContext& context, const AttentionCase& c) {
    AttentionRig rig(context, c);
    CudaDevice& device = context.device;
    const int64_t cache_bytes = rig.num_pages() * rig.page_bytes();
    rig.num_copies_ = static_cast<int>(std::max<int64_t>(2, CeilDiv(kRotatedBytes, cache_bytes)));
    COMET_ASSIGN_OR_RETURN(rig.pages_, device.Allocate(cache_bytes * rig.num_copies_));
    std::vector<int32_t> table(static_cast<size_t>(rig.num_pages()));
    std::iota(table.begin(), table.end(), 0);
    Random random(113);
    for (size_t i = table.size() - 1; i > 0; --i) {
      std::swap(table[i], table[static_cast<size_t>(random.NextInt(static_cast<int>(i) + 1))]);
    }
    COMET_ASSIGN_OR_RETURN(rig.page_table_, Upload(device, table));
    const int64_t q_bytes = rig.num_tokens() * rig.num_q_channels() * BytesOf(DType::kF16);
    COMET_ASSIGN_OR_RETURN(rig.q_, device.Allocate(q_bytes));
    COMET_ASSIGN_OR_RETURN(rig.out_, device.Allocate(q_bytes));
    COMET_RETURN_IF_ERROR(FillRandom(device, rig.q_.data(), q_bytes, FillKind::kF16, /*seed=*/127));
    COMET_ASSIGN_OR_RETURN(rig.rows_,
                           MakeRows(device, c.num_sequences, c.context_length, c.num_queries));
    return rig;
  }

  int num_q_channels() const { return case_.num_heads * case_.head_dim; }
  int sequence_pages() const { return CeilDiv(case_.context_length, kPageTokens); }
  int64_t num_pages() const { return int64_t{case_.num_sequences} * sequence_pages(); }
  int64_t page_bytes() const {
    return context_->ops.KvPageBytes(case_.format, case_.num_kv_heads, case_.head_dim);
  }

  KvCacheView CacheOf(int copy_idx) const {
    std::byte* first =
        static_cast<std::byte*>(pages_.data()) + copy_idx * num_pages() * page_bytes();
    return {.pages = TensorView(first, DType::kU8,
                                {static_cast<int>(num_pages()), static_cast<int>(page_bytes())}),
            .format = case_.format,
            .num_kv_heads = case_.num_kv_heads,
            .head_dim = case_.head_dim};
  }

  BatchView BatchOf(const DeviceBatchRows& rows, int first_sequence, int num_sequences,
                    int context_length, int num_queries) const {
    int32_t* table = static_cast<int32_t*>(page_table_.data()) + first_sequence * sequence_pages();
    return {.query_start = TensorView(rows.query_start.data(), DType::kI32, {num_sequences + 1}),
            .context_length = TensorView(rows.context_length.data(), DType::kI32, {num_sequences}),
            .page_table = TensorView(table, DType::kI32, {num_sequences, sequence_pages()}),
            .num_tokens = num_sequences * num_queries,
            .context_length_max = context_length,
            .query_length_max = num_queries};
  }

  int num_qkv_channels() const {
    return (case_.num_heads + 2 * case_.num_kv_heads) * case_.head_dim;
  }

  // Of `num_tokens` rows of qkv_ to `q_out`.
  RopeAppendArgs AppendArgs(const TensorView& q_out, int copy_idx, const BatchView& batch) const {
    const TensorShape table_shape{case_.context_length, case_.head_dim / 2};
    return {.q_out = q_out,
            .cache = CacheOf(copy_idx),
            .qkv = TensorView(qkv_.data(), DType::kF16, {batch.num_tokens, num_qkv_channels()}),
            .cos = TensorView(cos_.data(), DType::kF32, table_shape),
            .sin = TensorView(sin_.data(), DType::kF32, table_shape),
            .batch = batch,
            .num_heads = case_.num_heads,
            .hadamard = true};
  }

  Status AllocateAppend(int num_tokens) {
    CudaDevice& device = context_->device;
    const int64_t qkv_bytes = int64_t{num_tokens} * num_qkv_channels() * BytesOf(DType::kF16);
    COMET_ASSIGN_OR_RETURN(qkv_, device.Allocate(qkv_bytes));
    COMET_RETURN_IF_ERROR(FillRandom(device, qkv_.data(), qkv_bytes, FillKind::kF16, /*seed=*/131));
    const size_t table_size = static_cast<size_t>(case_.context_length) * (case_.head_dim / 2);
    COMET_ASSIGN_OR_RETURN(cos_, Upload(device, std::vector(table_size, kCos)));
    COMET_ASSIGN_OR_RETURN(sin_, Upload(device, std::vector(table_size, kSin)));
    return Status::Ok();
  }

  // By the op that fills it in a step, from the same random keys and values again and again.
  Status FillCaches() {
    CudaDevice& device = context_->device;
    const int num_append = std::min(case_.context_length, kAppendTokensMax);
    COMET_RETURN_IF_ERROR(AllocateAppend(num_append));
    for (int begin = 0; begin < case_.context_length; begin += num_append) {
      const int end = std::min(begin + num_append, case_.context_length);
      COMET_ASSIGN_OR_RETURN(const DeviceBatchRows rows, MakeRows(device, 1, end, end - begin));
      TensorShape q_shape{end - begin, num_q_channels()};  // In place.
      q_shape.set_stride(0, num_qkv_channels());
      for (int i = 0; i < num_copies_ * case_.num_sequences; ++i) {
        COMET_RETURN_IF_ERROR(context_->ops.RopeAppend(
            AppendArgs(TensorView(qkv_.data(), DType::kF16, q_shape), i / case_.num_sequences,
                       BatchOf(rows, i % case_.num_sequences, 1, end, end - begin))));
      }
      COMET_RETURN_IF_ERROR(device.Synchronize());
    }
    return Status::Ok();
  }

  const BenchContext* context_;
  AttentionCase case_;
  int num_copies_ = 0;
  DeviceBuffer pages_;
  DeviceBuffer page_table_;
  DeviceBuffer q_;
  DeviceBuffer out_;
  DeviceBuffer scratch_;
  int64_t scratch_bytes_ = 0;
  DeviceBatchRows rows_;
  DeviceBuffer qkv_;
  DeviceBuffer cos_;
  DeviceBuffer sin_;
};

Result<OpMeasurement> Measure(const BenchContext& context, const AttentionRig& rig,
                              std::string_view kernel, const std::function<Status(int)>& issue) {
  const int num_launches = std::max(kLaunchesMin, rig.num_copies());
  std::vector<Replay> replays;
  COMET_ASSIGN_OR_RETURN(Replay replay, Replay::Capture(context.device, num_launches, [&](int i) {
                           return issue(i % rig.num_copies());
                         }));
  replays.push_back(std::move(replay));
  COMET_ASSIGN_OR_RETURN(auto us, MeasureInTurn(context, replays));
  const int num_tokens = static_cast<int>(rig.num_tokens());
  OpMeasurement measurement{.num_tokens = num_tokens};
  KernelTime time{.kernel = std::string(kernel),
                  .us = Median(us[0]),
                  .us_min = us[0].front(),
                  .us_max = us[0].back(),
                  .num_tokens = num_tokens,
                  .num_launches = num_launches,
                  .num_weight_copies = rig.num_copies()};
  measurement.times.push_back(std::move(time));
  COMET_ASSIGN_OR_RETURN(measurement.sm_clock_mhz,
                         ClockDuring(context, replays[0], measurement.times[0].us));
  return measurement;
}

}  // namespace

Result<OpMeasurement> MeasureAttention(const BenchContext& context, const AttentionCase& c) {
  COMET_ASSIGN_OR_RETURN(const AttentionRig rig, AttentionRig::Create(context, c));
  COMET_ASSIGN_OR_RETURN(
      OpMeasurement measurement,
      Measure(context, rig, "attention", [&](int copy_idx) { return rig.Issue(copy_idx); }));
  measurement.num_bytes = rig.num_bytes();
  measurement.num_ops = rig.num_ops();
  return measurement;
}

Result<OpMeasurement> MeasureRopeAppend(const BenchContext& context, const AttentionCase& c) {
  COMET_ASSIGN_OR_RETURN(const AttentionRig rig, AttentionRig::CreateForAppend(context, c));
  COMET_ASSIGN_OR_RETURN(OpMeasurement measurement,
                         Measure(context, rig, "rope_append",
                                 [&](int copy_idx) { return rig.IssueAppend(copy_idx); }));
  measurement.num_bytes = rig.num_append_bytes();
  return measurement;
}

}  // namespace comet::cuda
