#include "kernels/cuda/bench/product_bench.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/cuda/bench/bench_input.h"
#include "kernels/cuda/bench/random_fill.h"

namespace comet::cuda {
namespace {

// A replay lasts about this long, so that starting a graph does not count, and touches this many
// bytes of weights before it comes back to the first: three times an H100's L2.
constexpr double kReplayUs = 1000;
constexpr int64_t kRotatedBytes = 150'000'000;
constexpr int kLaunchesMax = 160;
constexpr int kTokensAlignment = 16;  // Of a baseline's M where it has no kernel for M itself.

// Roughly what a launch takes on a card of some 3 TB/s and 700 fp16 TFLOPS, to size the replays.
double EstimateUs(double num_bytes, double num_ops, double ops_per_us) {
  return 3.0 + std::max(num_bytes / 2.8e6, num_ops / ops_per_us);
}

int NumCopies(int64_t weight_bytes) {
  return std::max(2, static_cast<int>(CeilDiv(kRotatedBytes, weight_bytes)));
}

// As many launches as fill a replay; whole rotations where that is not much more.
int NumLaunches(double us_per_launch, int num_copies) {
  const int wanted =
      std::clamp(static_cast<int>(std::ceil(kReplayUs / us_per_launch)), 2, kLaunchesMax);
  return std::max(wanted, std::min(num_copies, 2 * wanted));
}

KernelTime Summarize(std::string_view kernel, std::vector<double> us, const Replay& replay,
                     int num_tokens, int num_weight_copies) {
  KernelTime time;
  time.kernel = kernel;
  time.us = Median(us);  // Sorts.
  time.us_min = us.front();
  time.us_max = us.back();
  time.num_tokens = num_tokens;
  time.num_launches = replay.num_launches();
  time.num_weight_copies = num_weight_copies;
  return time;
}

// A cuBLASLt product of every number of tokens with one set of weights.
class Baseline {
 public:
  static Result<Baseline> Create(const BenchContext& context, LtType type, int num_outputs,
                                 int num_inputs, int num_tokens_max) {
    Baseline baseline(context, type, num_outputs, num_inputs);
    const int64_t row_bytes = int64_t{num_inputs} * OperandBytes(type);
    const int64_t weight_bytes = num_outputs * row_bytes;
    const int num_rows = AlignUp(num_tokens_max, kTokensAlignment);
    baseline.num_copies_ = NumCopies(weight_bytes);
    COMET_ASSIGN_OR_RETURN(baseline.weights_,
                           context.device.Allocate(baseline.num_copies_ * weight_bytes));
    COMET_ASSIGN_OR_RETURN(baseline.x_, context.device.Allocate(num_rows * row_bytes));
    COMET_ASSIGN_OR_RETURN(
        baseline.y_, context.device.Allocate(int64_t{num_rows} * num_outputs * ResultBytes(type)));
    for (const DeviceBuffer* buffer : {&baseline.weights_, &baseline.x_}) {
      COMET_RETURN_IF_ERROR(FillRandom(context.device, buffer->data(), buffer->num_bytes(),
                                       baseline.fill_kind(), /*seed=*/83));
    }
    return baseline;
  }

  // Chooses the fastest algorithm for `num_tokens` and captures it. Errors: kUnimplemented: the
  // library has no kernel.
  Result<Replay> Capture(int num_tokens) {
    COMET_RETURN_IF_ERROR(FindProduct(num_tokens));
    const double us = EstimateUs(static_cast<double>(weight_bytes()),
                                 2.0 * num_tokens * num_outputs_ * num_inputs_, ops_per_us());
    constexpr double kTrialUs = 300;
    const int num_trials = std::clamp(static_cast<int>(kTrialUs / us), 1, 24);
    int best_idx = -1;
    double best_us = std::numeric_limits<double>::infinity();
    for (int i = 0; i < product_->num_algorithms(); ++i) {
      Result<double> trial_us = TryAlgorithm(i, num_trials, best_us);
      if (!trial_us.ok()) continue;  // The heuristics may name what cannot run at this size.
      if (*trial_us < best_us) {
        best_us = *trial_us;
        best_idx = i;
      }
    }
    if (best_idx < 0)
      return Unimplemented(StrCat("op_bench: no algorithm of ", NameOf(type_), " ran"));
    return CaptureAlgorithm(best_idx, NumLaunches(best_us, num_copies_));
  }

  LtType type() const { return type_; }
  int num_copies() const { return num_copies_; }
  int num_tokens_run() const { return num_tokens_run_; }

 private:
  Baseline(const BenchContext& context, LtType type, int num_outputs, int num_inputs)
      : context_(&context), type_(type), num_outputs_(num_outputs), num_inputs_(num_inputs) {}

  int64_t weight_bytes() const { return int64_t{num_outputs_} * num_inputs_ * OperandBytes(type_); }
  double ops_per_us() const { return type_ == LtType::kFp16 ? 7e8 : 1.4e9; }
  FillKind fill_kind() const {
    switch (type_) {
      case LtType::kFp16: return FillKind::kF16;
      case LtType::kInt8: return FillKind::kInt8;
      case LtType::kFp8: return FillKind::kFp8E4m3;
    }
    return FillKind::kF16;
  }

  Status FindProduct(int num_tokens) {
    for (const int tokens : {num_tokens, AlignUp(num_tokens, kTokensAlignment)}) {
      COMET_ASSIGN_OR_RETURN(
          product_, context_->cublaslt->MakeProduct(type_, tokens, num_outputs_, num_inputs_,
                                                    context_->options.num_heuristics_max));
      num_tokens_run_ = tokens;
      if (product_->num_algorithms() > 0) return Status::Ok();
    }
    return Unimplemented(StrCat("op_bench: ", NameOf(type_), " has no kernel for M ", num_tokens,
                                ", N ", num_outputs_, ", K ", num_inputs_));
  }

  Result<Replay> CaptureAlgorithm(int algorithm_idx, int num_launches) const {
    return Replay::Capture(context_->device, num_launches, [&](int i) {
      const auto* weights =
          static_cast<const std::byte*>(weights_.data()) + i % num_copies_ * weight_bytes();
      return product_->Run(algorithm_idx, weights, x_.data(), y_.data(), context_->workspace,
                           context_->device.stream());
    });
  }

  // The best of up to four replays; gives up after the second when far behind.
  Result<double> TryAlgorithm(int algorithm_idx, int num_launches, double us_to_beat) const {
    COMET_ASSIGN_OR_RETURN(const Replay replay, CaptureAlgorithm(algorithm_idx, num_launches));
    double us_min = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 4; ++i) {
      COMET_RETURN_IF_ERROR(replay.Start(context_->device));
      COMET_ASSIGN_OR_RETURN(const double us, replay.Finish());
      us_min = std::min(us_min, us);
      constexpr double kFarBehind = 1.3;
      const bool is_long = us * num_launches > 2 * kReplayUs;
      if ((i > 0 || is_long) && us_min > kFarBehind * us_to_beat) break;
      if (is_long && i > 0) break;
    }
    return us_min;
  }

  const BenchContext* context_;
  LtType type_;
  int num_outputs_;
  int num_inputs_;
  int num_copies_ = 0;
  int num_tokens_run_ = 0;
  DeviceBuffer weights_;
  DeviceBuffer x_;
  DeviceBuffer y_;
  std::unique_ptr<CublasLt::Product> product_;
};

// Our product of every number of tokens with one set of weights.
class OurProduct {
 public:
  static Result<OurProduct> Create(const BenchContext& context, WeightKind kind, int num_outputs,
                                   int num_inputs, int num_tokens_max) {
    OurProduct product(context, kind);
    ActivationFormat format{.mode = context.options.mode, .clip = 0.9f};
    format.packs_int4 = PacksInt4(context, format);
    if (kind == WeightKind::kW4ax) {
      const int num_blocks =
          static_cast<int>(context.options.int4_share * num_inputs) / kBlockChannels;
      format.num_int4_channels = num_blocks * kBlockChannels;
    }
    format.exponent_max =
        ExponentMax(format.mode, format.num_int4_channels, num_inputs - format.num_int4_channels);
    const RandomLinear linear{.kind = kind,
                              .num_outputs = num_outputs,
                              .num_inputs = num_inputs,
                              .num_int4_channels = format.num_int4_channels,
                              .seed = 89};
    COMET_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> first, context.ops.PackRandom(linear));
    const int num_copies = NumCopies(first->num_bytes());
    product.weights_.push_back(std::move(first));
    while (static_cast<int>(product.weights_.size()) < num_copies) {
      COMET_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> copy, context.ops.PackRandom(linear));
      product.weights_.push_back(std::move(copy));
    }
    COMET_ASSIGN_OR_RETURN(product.x_, BenchInput::Create(context.device, context.ops, format,
                                                          num_tokens_max, num_inputs));
    if (kind == WeightKind::kW4ax && context.options.has_other_mode) {
      format.mode = OtherMode(format.mode);
      format.packs_int4 = PacksInt4(context, format);
      format.exponent_max =
          ExponentMax(format.mode, format.num_int4_channels, num_inputs - format.num_int4_channels);
      COMET_ASSIGN_OR_RETURN(
          product.other_x_,
          BenchInput::Create(context.device, context.ops, format, num_tokens_max, num_inputs));
    }
    COMET_ASSIGN_OR_RETURN(product.y_,
                           context.device.Allocate(int64_t{num_tokens_max} * num_outputs * 2));
    return product;
  }

  Result<Replay> Capture(int num_tokens) const { return Capture(num_tokens, x_); }
  bool has_other_mode() const { return other_x_.has_value(); }
  Result<Replay> CaptureOtherMode(int num_tokens) const { return Capture(num_tokens, *other_x_); }
  std::string_view other_name() const {
    return context_->options.mode == ActivationMode::kInt8 ? "w4ax_mixed" : "w4ax_int8";
  }

  std::string_view name() const { return kind_ == WeightKind::kW4ax ? "w4ax" : "int8_linear"; }
  int num_copies() const { return static_cast<int>(weights_.size()); }
  double num_bytes(int num_tokens) const {
    const PackedLinear& weights = *weights_.front();
    // Codes, scale, exponent and the two sums of each token; results in f16, which a residual has
    // read as well.
    const double y_bytes = (context_->options.has_residual ? 4.0 : 2.0) * weights.num_outputs();
    return static_cast<double>(weights.num_bytes()) +
           static_cast<double>(num_tokens) * (weights.num_inputs() + 16 + y_bytes);
  }
  double num_ops(int num_tokens) const {
    return 2.0 * num_tokens * weights_.front()->num_outputs() * weights_.front()->num_inputs();
  }

 private:
  OurProduct(const BenchContext& context, WeightKind kind) : context_(&context), kind_(kind) {}

  static bool PacksInt4(const BenchContext& context, const ActivationFormat& format) {
    return format.mode == ActivationMode::kMixed && context.ops.HasInt4Products();
  }

  static ActivationMode OtherMode(ActivationMode mode) {
    return mode == ActivationMode::kInt8 ? ActivationMode::kMixed : ActivationMode::kInt8;
  }

  Result<Replay> Capture(int num_tokens, const BenchInput& x) const {
    const double us = EstimateUs(num_bytes(num_tokens), num_ops(num_tokens), /*ops_per_us=*/1.4e9);
    return Replay::Capture(context_->device, NumLaunches(us, num_copies()), [&](int i) {
      const PackedLinear& weights = *weights_[static_cast<size_t>(i % num_copies())];
      const TensorView y(y_.data(), DType::kF16, {num_tokens, weights.num_outputs()});
      LinearArgs args{.y = y, .x = x.Rows(num_tokens), .weights = &weights};
      if (context_->options.has_residual) args.residual = y;
      return context_->ops.Linear(args);
    });
  }

  const BenchContext* context_;
  WeightKind kind_;
  std::vector<std::unique_ptr<PackedLinear>> weights_;
  BenchInput x_;
  std::optional<BenchInput> other_x_;  // The same numbers in the other mode.
  DeviceBuffer y_;
};

Result<OpMeasurement> MeasureTokens(const BenchContext& context, const OurProduct& ours,
                                    std::vector<Baseline>& baselines, int num_tokens) {
  std::vector<Replay> replays;
  std::vector<const Baseline*> measured;
  COMET_ASSIGN_OR_RETURN(Replay our_replay, ours.Capture(num_tokens));
  replays.push_back(std::move(our_replay));
  if (ours.has_other_mode()) {
    COMET_ASSIGN_OR_RETURN(Replay other_replay, ours.CaptureOtherMode(num_tokens));
    replays.push_back(std::move(other_replay));
  }
  for (Baseline& baseline : baselines) {
    Result<Replay> replay = baseline.Capture(num_tokens);
    if (replay.status().code() == StatusCode::kUnimplemented) continue;
    COMET_RETURN_IF_ERROR(replay.status());
    replays.push_back(std::move(replay).value());
    measured.push_back(&baseline);
  }
  COMET_ASSIGN_OR_RETURN(const auto us, MeasureInTurn(context, replays));

  OpMeasurement measurement;
  measurement.num_tokens = num_tokens;
  measurement.num_bytes = ours.num_bytes(num_tokens);
  measurement.num_ops = ours.num_ops(num_tokens);
  measurement.times.push_back(
      Summarize(ours.name(), us[0], replays[0], num_tokens, ours.num_copies()));
  size_t next = 1;
  if (ours.has_other_mode()) {
    measurement.times.push_back(
        Summarize(ours.other_name(), us[next], replays[next], num_tokens, ours.num_copies()));
    ++next;
  }
  for (const Baseline* baseline : measured) {
    measurement.times.push_back(Summarize(NameOf(baseline->type()), us[next], replays[next],
                                          baseline->num_tokens_run(), baseline->num_copies()));
    ++next;
  }
  COMET_ASSIGN_OR_RETURN(measurement.sm_clock_mhz,
                         ClockDuring(context, replays[0], measurement.times[0].us));
  return measurement;
}

}  // namespace

Result<std::vector<std::vector<double>>> MeasureInTurn(const BenchContext& context,
                                                       const std::vector<Replay>& replays) {
  std::vector<std::vector<double>> us(replays.size());
  for (int repeat = -1; repeat < context.options.num_repeats; ++repeat) {
    for (size_t i = 0; i < replays.size(); ++i) {
      COMET_RETURN_IF_ERROR(replays[i].Start(context.device));
      COMET_ASSIGN_OR_RETURN(const double launch_us, replays[i].Finish());
      if (repeat >= 0) us[i].push_back(launch_us);
    }
  }
  return us;
}

Result<double> ClockDuring(const BenchContext& context, const Replay& replay,
                           double us_per_launch) {
  if (context.clock == nullptr) return 0.0;
  constexpr double kBurstUs = 4000;
  const int num_replays =
      std::max(2, static_cast<int>(kBurstUs / (us_per_launch * replay.num_launches())));
  for (int i = 0; i < num_replays; ++i) COMET_RETURN_IF_ERROR(replay.Start(context.device));
  const double mhz = context.clock->Mhz();
  COMET_RETURN_IF_ERROR(context.device.Synchronize());
  return mhz;
}

Result<std::vector<OpMeasurement>> MeasureProduct(const BenchContext& context, WeightKind kind,
                                                  int num_outputs, int num_inputs,
                                                  std::span<const int> num_tokens,
                                                  const OpBench::Progress& progress) {
  const int num_tokens_max = *std::max_element(num_tokens.begin(), num_tokens.end());
  COMET_ASSIGN_OR_RETURN(const OurProduct ours, OurProduct::Create(context, kind, num_outputs,
                                                                   num_inputs, num_tokens_max));
  std::vector<Baseline> baselines;
  if (context.cublaslt != nullptr) {
    for (const LtType type : {LtType::kFp16, LtType::kInt8, LtType::kFp8}) {
      COMET_ASSIGN_OR_RETURN(Baseline baseline, Baseline::Create(context, type, num_outputs,
                                                                 num_inputs, num_tokens_max));
      baselines.push_back(std::move(baseline));
    }
  }
  std::vector<OpMeasurement> measurements;
  for (const int tokens : num_tokens) {
    COMET_ASSIGN_OR_RETURN(OpMeasurement measurement,
                           MeasureTokens(context, ours, baselines, tokens));
    measurements.push_back(std::move(measurement));
    if (progress) progress(tokens);
  }
  return measurements;
}

}  // namespace comet::cuda
