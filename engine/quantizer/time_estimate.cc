#include "engine/quantizer/time_estimate.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "engine/model/device_tensor.h"
#include "engine/quantizer/error_feedback.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/model_tuner.h"
#include "engine/quantizer/quantize_model.h"
#include "engine/quantizer/two_level_weights.h"
#include "kernels/base/random.h"

namespace comet {
namespace {

// Each is timed this often, and the fastest counts: other work on the host only slows.
constexpr int kRepeats = 2;
constexpr int kFloatRows = 256;
constexpr int kFloatSize = 1024;
constexpr int kSearchOutputs = 256;
constexpr int kSearchInputs = 256;
constexpr int kFeedbackInputs = 512;
constexpr int kFeedbackOutputs = 512;
constexpr int kHeldOutRuns = 3;  // Float, 8 bits, mixed.

std::vector<float> RandomMatrix(int num_rows, int num_columns) {
  Random random(1);
  std::vector<float> values(static_cast<size_t>(num_rows) * static_cast<size_t>(num_columns));
  for (float& value : values) value = random.NextNormal();
  return values;
}

// Of channels that are nearly independent, as a Gram matrix of many tokens is.
std::vector<float> NearIdentity(int size) {
  std::vector<float> gram(static_cast<size_t>(size) * static_cast<size_t>(size), 0.01f);
  for (size_t i = 0; i < gram.size(); i += static_cast<size_t>(size) + 1) gram[i] = 1.0f;
  return gram;
}

// Seconds of the fastest run.
template <typename Function>
Result<double> FastestSeconds(const Function& run) {
  double fastest = 0.0;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    COMET_RETURN_IF_ERROR(run());
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    const double seconds = std::max(elapsed.count(), 1e-9);
    fastest = i == 0 ? seconds : std::min(fastest, seconds);
  }
  return fastest;
}

Result<double> FloatOpsPerSecond(Backend& backend) {
  const std::vector<float> values = RandomMatrix(kFloatSize, kFloatSize);
  const ConstTensorView matrix(values.data(), DType::kF32, {kFloatSize, kFloatSize});
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> weights,
                         backend.ops->PackLinear(FloatWeights{matrix}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor input,
                         DeviceTensor::Upload(*backend.device, matrix.Rows(0, kFloatRows)));
  COMET_ASSIGN_OR_RETURN(
      const DeviceTensor output,
      DeviceTensor::Allocate(*backend.device, DType::kF32, {kFloatRows, kFloatSize}));
  COMET_ASSIGN_OR_RETURN(
      const double seconds, FastestSeconds([&]() -> Status {
        COMET_RETURN_IF_ERROR(backend.ops->Linear(
            {.y = output.view(), .x = {.values = input.view()}, .weights = weights.get()}));
        return backend.device->Synchronize();
      }));
  return 2.0 * kFloatRows * kFloatSize * kFloatSize / seconds;
}

Result<double> SearchedWeightsPerSecond(Backend& backend, int num_threads) {
  const std::vector<float> weights = RandomMatrix(kSearchOutputs, kSearchInputs);
  const std::vector<float> sample = RandomMatrix(128, kSearchInputs);
  const std::vector<float> gram = NearIdentity(kSearchInputs);
  const LinearTask task{.num_outputs = kSearchOutputs,
                        .num_inputs = kSearchInputs,
                        .weights = weights,
                        .sample = sample,
                        .gram = gram,
                        .num_int4_channels = kSearchInputs / 2};
  // What refinement costs grows with K and is counted by its products.
  const WeightSearch search{.num_refinement_rounds = 0, .num_threads = num_threads};
  COMET_ASSIGN_OR_RETURN(const double seconds, FastestSeconds([&] {
                           return QuantizeLinear(backend, task, search).status();
                         }));
  return 1.0 * kSearchOutputs * kSearchInputs / seconds;
}

Result<double> FeedbackSeconds(int num_outputs, int num_threads) {
  const std::vector<float> weights = RandomMatrix(num_outputs, kFeedbackInputs);
  const std::vector<float> importance(kFeedbackInputs, 1.0f);
  const std::vector<float> gram = NearIdentity(kFeedbackInputs);
  TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, num_threads);
  return FastestSeconds([&] {
    FeedBackErrors(weights, gram, quantized, num_threads);
    return Status::Ok();
  });
}

}  // namespace

QuantizeWork EstimateWork(const ModelConfig& config, const CalibrationSize& calibration,
                          const TuningOptions& tuning, const TuningSize& tuning_size) {
  struct Linear {
    double num_outputs;
    double num_inputs;
  };
  const double hidden = config.hidden_size;
  const double ffn = config.ffn_size;
  const Linear linears[] = {{static_cast<double>(config.qkv_size()), hidden},
                            {hidden, static_cast<double>(config.q_size())},
                            {2.0 * ffn, hidden},
                            {hidden, ffn}};
  const double tokens = calibration.num_tokens;
  const double tuning_tokens = calibration.num_tuning_tokens;
  const double held_out_tokens = kHeldOutRuns * calibration.num_held_out_tokens;
  const double rotation_tokens = QuantizeModelOptions().rotation_tokens;
  QuantizeWork work;
  for (const auto& [n, k] : linears) {
    // Both models pass, the rotation's windows before them; Gram matrix, somewhat over half of it
    // as it is symmetric, and drift.
    work.float_ops +=
        2.0 * n * k * (2.0 * tokens + tuning_tokens + rotation_tokens + held_out_tokens) +
        2.0 * 1.6 * k * k * tokens;
    work.searched_weights += n * k;
    // The target takes three products with K x K matrices, refinement's start one, each round one,
    // residuals of codes one.
    work.refining_ops +=
        2.0 * n * k * k *
        (4 + WeightSearch().num_refinement_rounds + (tuning_size.has_codes ? 1 : 0));
    work.feedback_ops += n * k * k;
    work.factor_ops += 2.0 * k * k * k;
  }
  // The residual stream's gap at o and down.
  work.float_ops += 2.0 * hidden * (static_cast<double>(config.q_size()) + ffn) * tokens;
  // Each token attends to half a window on average, in scores and in values.
  work.float_ops += 2.0 * (2.0 * tokens + tuning_tokens + held_out_tokens) *
                    calibration.window_tokens_max * static_cast<double>(config.q_size());
  for (double* sum : {&work.float_ops, &work.refining_ops, &work.searched_weights,
                      &work.feedback_ops, &work.factor_ops}) {
    *sum *= config.num_layers;
  }
  work.float_ops += 2.0 * hidden * config.vocab_size * held_out_tokens;
  if (tuning_size.num_bytes > 0) {
    // Forward and back through the layers, and the gradient of their weights; the float head, the
    // quantised one and back. Products of codes, forward and of that gradient, take about a quarter
    // of the time of floats: 425 and 98 Gop/s a core of an EPYC with AVX-512 VNNI, by a profile of
    // SmolLM2's tuning (2026-11-26).
    const double layer_products = tuning_size.has_codes ? 3.0 : 2.5;
    const double layer_weights =
        hidden * (config.qkv_size() + config.q_size()) + 3.0 * hidden * ffn;
    work.refining_ops +=
        1.0 * tuning.num_steps * tuning.step_tokens *
        (layer_products * config.num_layers * layer_weights + 4.5 * hidden * config.vocab_size);
  }
  return work;
}

Result<QuantizeRates> MeasureRates(Backend& backend, int num_threads) {
  QuantizeRates rates;
  COMET_ASSIGN_OR_RETURN(rates.float_ops, FloatOpsPerSecond(backend));
  COMET_ASSIGN_OR_RETURN(rates.searched_weights, SearchedWeightsPerSecond(backend, num_threads));
  // Two rows cost the factor alone; what further rows add is the feedback.
  constexpr double kSquare = 1.0 * kFeedbackInputs * kFeedbackInputs;
  COMET_ASSIGN_OR_RETURN(const double factor_seconds, FeedbackSeconds(2, num_threads));
  COMET_ASSIGN_OR_RETURN(const double all_seconds,
                         FeedbackSeconds(2 + kFeedbackOutputs, num_threads));
  rates.factor_ops = kSquare * kFeedbackInputs / factor_seconds;
  rates.feedback_ops =
      kSquare * kFeedbackOutputs / std::max(all_seconds - factor_seconds, 0.1 * all_seconds);
  return rates;
}

double EstimateSeconds(const QuantizeWork& work, const QuantizeRates& rates) {
  return (work.float_ops + work.refining_ops) / rates.float_ops +
         work.searched_weights / rates.searched_weights + work.feedback_ops / rates.feedback_ops +
         work.factor_ops / rates.factor_ops;
}

}  // namespace comet
