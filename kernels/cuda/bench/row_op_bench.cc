#include <algorithm>
#include <memory>
#include <numeric>

#include "kernels/base/random.h"
#include "kernels/cuda/bench/bench_input.h"
#include "kernels/cuda/bench/product_bench.h"
#include "kernels/cuda/bench/random_fill.h"

namespace comet::cuda {
namespace {

constexpr int kVocabSize = 128256;  // Of the embedding's table: LLaMA-3's.
constexpr int kLaunches = 64;

std::vector<int32_t> Permutation(int size, Random& random) {
  std::vector<int32_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  for (int i = size - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.NextInt(i + 1))]);
  }
  return order;
}

// One row op's operands, for any number of tokens up to the largest.
class RowOpRig {
 public:
  static Result<RowOpRig> Create(const BenchContext& context, const RowOpCase& c,
                                 int num_tokens_max) {
    RowOpRig rig(context, c);
    CudaDevice& device = context.device;
    const int num_int4 = static_cast<int>(context.options.int4_share * c.num_channels) /
                         kBlockChannels * kBlockChannels;
    const ActivationFormat format{
        .mode = context.options.mode,
        .num_int4_channels = num_int4,
        .exponent_max = ExponentMax(context.options.mode, num_int4, c.num_channels - num_int4),
        .clip = 0.9f};
    COMET_ASSIGN_OR_RETURN(rig.out_,
                           BenchInput::Allocate(device, format, num_tokens_max, c.num_channels));
    const int64_t x_bytes =
        int64_t{num_tokens_max} * c.num_channels * rig.x_columns_per_channel() * BytesOf(c.dtype);
    COMET_ASSIGN_OR_RETURN(rig.x_, device.Allocate(x_bytes));
    COMET_RETURN_IF_ERROR(FillRandom(device, rig.x_.data(), x_bytes,
                                     c.dtype == DType::kF16 ? FillKind::kF16 : FillKind::kF32,
                                     /*seed=*/101));
    Random random(103);
    std::vector<float> weight(static_cast<size_t>(c.num_channels));
    for (float& value : weight) value = random.NextFloat(0.5f, 1.5f);
    COMET_ASSIGN_OR_RETURN(rig.weight_, Upload(device, weight));
    COMET_ASSIGN_OR_RETURN(rig.gather_, Upload(device, Permutation(c.num_channels, random)));
    std::vector<int32_t> ids(static_cast<size_t>(num_tokens_max));
    for (int32_t& id : ids) id = random.NextInt(kVocabSize);
    COMET_ASSIGN_OR_RETURN(rig.ids_, Upload(device, ids));
    if (c.op == RowOp::kEmbedding) {
      COMET_ASSIGN_OR_RETURN(rig.table_, context.ops.PackRandom({.kind = WeightKind::kInt8,
                                                                 .num_outputs = kVocabSize,
                                                                 .num_inputs = c.num_channels,
                                                                 .seed = 107}));
    }
    return rig;
  }

  Status Issue(int num_tokens) const {
    const int num_channels = case_.num_channels;
    const TensorView x(x_.data(), case_.dtype,
                       {num_tokens, num_channels * x_columns_per_channel()});
    const ConstTensorView gather(gather_.data(), DType::kI32, {num_channels});
    switch (case_.op) {
      case RowOp::kRmsNorm:
        return context_->ops.RmsNorm({.out = out_.Rows(num_tokens),
                                      .x = x,
                                      .weight = {weight_.data(), DType::kF32, {num_channels}},
                                      .gather = gather,
                                      .epsilon = 1e-5f});
      case RowOp::kGather:
        return context_->ops.Gather({.out = out_.Rows(num_tokens), .x = x, .gather = gather});
      case RowOp::kSiluMul:
        return context_->ops.SiluMul({.out = out_.Rows(num_tokens), .gate_up = x});
      case RowOp::kEmbedding:
        return context_->ops.Embedding(
            {.out = x, .ids = {ids_.data(), DType::kI32, {num_tokens}}, .table = table_.get()});
    }
    return Internal("op_bench: unknown row op");
  }

  // Floats and codes of a token once, its four scalars where there are any.
  double num_bytes(int num_tokens) const {
    const double float_bytes =
        static_cast<double>(case_.num_channels) * x_columns_per_channel() * BytesOf(case_.dtype);
    const int scalar_bytes = case_.op == RowOp::kEmbedding ? 4 : 16;
    return num_tokens * (float_bytes + case_.num_channels + scalar_bytes);
  }

 private:
  RowOpRig(const BenchContext& context, const RowOpCase& c) : context_(&context), case_(c) {}

  int x_columns_per_channel() const { return case_.op == RowOp::kSiluMul ? 2 : 1; }

  const BenchContext* context_;
  RowOpCase case_;
  BenchInput out_;
  DeviceBuffer x_;
  DeviceBuffer weight_;
  DeviceBuffer gather_;
  DeviceBuffer ids_;
  std::unique_ptr<PackedLinear> table_;
};

std::string_view NameOf(RowOp op) {
  switch (op) {
    case RowOp::kRmsNorm: return "rms_norm";
    case RowOp::kGather: return "gather";
    case RowOp::kSiluMul: return "silu_mul";
    case RowOp::kEmbedding: return "embedding";
  }
  return "?";
}

}  // namespace

Result<std::vector<OpMeasurement>> MeasureRowOp(const BenchContext& context, const RowOpCase& c,
                                                std::span<const int> num_tokens) {
  const int num_tokens_max = *std::max_element(num_tokens.begin(), num_tokens.end());
  COMET_ASSIGN_OR_RETURN(const RowOpRig rig, RowOpRig::Create(context, c, num_tokens_max));
  std::vector<OpMeasurement> measurements;
  for (const int tokens : num_tokens) {
    std::vector<Replay> replays;
    COMET_ASSIGN_OR_RETURN(Replay replay, Replay::Capture(context.device, kLaunches,
                                                          [&](int) { return rig.Issue(tokens); }));
    replays.push_back(std::move(replay));
    COMET_ASSIGN_OR_RETURN(auto us, MeasureInTurn(context, replays));
    OpMeasurement measurement;
    measurement.num_tokens = tokens;
    measurement.num_bytes = rig.num_bytes(tokens);
    KernelTime time{.kernel = std::string(NameOf(c.op)),
                    .us = Median(us[0]),
                    .us_min = us[0].front(),
                    .us_max = us[0].back(),
                    .num_tokens = tokens,
                    .num_launches = kLaunches};
    measurement.times.push_back(std::move(time));
    COMET_ASSIGN_OR_RETURN(measurement.sm_clock_mhz,
                           ClockDuring(context, replays[0], measurement.times[0].us));
    measurements.push_back(std::move(measurement));
  }
  return measurements;
}

}  // namespace comet::cuda
