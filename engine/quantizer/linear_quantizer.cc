#include "engine/quantizer/linear_quantizer.h"

#include <algorithm>
#include <limits>

#include "engine/model/decoder_layer.h"
#include "engine/model/device_tensor.h"
#include "engine/quantizer/cache_rounding.h"
#include "engine/quantizer/error_feedback.h"
#include "engine/quantizer/latent_codes.h"
#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/two_level_weights.h"
#include "engine/quantizer/weight_refinement.h"
#include "kernels/base/math.h"

namespace comet {
namespace {

// The clips tried, as shares of the row's largest magnitude.
constexpr float kClips[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f, 0.7f, 0.65f, 0.6f, 0.55f, 0.5f};

// Runs one linear layer over the calibration sample with the back end's ops.
class SampleRunner {
 public:
  static Result<SampleRunner> Create(Backend& backend, const LinearTask& task);

  // Outputs [num_tokens, N] of `weights` for inputs held in `format`.
  Result<std::vector<float>> Run(const PackedLinear& weights, const ActivationFormat& format);

 private:
  SampleRunner(Backend& backend, int num_outputs) : backend_(backend), num_outputs_(num_outputs) {}

  Backend& backend_;
  int num_outputs_;
  DeviceTensor sample_;
  DeviceTensor codes_;
  DeviceTensor values_;
  DeviceTensor scale_;
  DeviceTensor exponent_;
  DeviceTensor code_sum_;
  DeviceTensor outputs_;
};

Result<SampleRunner> SampleRunner::Create(Backend& backend, const LinearTask& task) {
  Device& device = *backend.device;
  const int num_channels = task.num_inputs;
  const int num_tokens = static_cast<int>(task.sample.size()) / num_channels;
  SampleRunner runner(backend, task.num_outputs);
  COMET_ASSIGN_OR_RETURN(
      runner.sample_,
      DeviceTensor::Upload(device, {task.sample.data(), DType::kF32, {num_tokens, num_channels}}));
  const auto allocate = [&](DeviceTensor& tensor, DType dtype, TensorShape shape) -> Status {
    COMET_ASSIGN_OR_RETURN(tensor, DeviceTensor::Allocate(device, dtype, shape));
    return Status::Ok();
  };
  COMET_RETURN_IF_ERROR(allocate(runner.codes_, DType::kI8, {num_tokens, num_channels}));
  COMET_RETURN_IF_ERROR(allocate(runner.values_, DType::kF32, {num_tokens, num_channels}));
  COMET_RETURN_IF_ERROR(allocate(runner.scale_, DType::kF32, {num_tokens}));
  COMET_RETURN_IF_ERROR(allocate(runner.exponent_, DType::kI32, {num_tokens}));
  COMET_RETURN_IF_ERROR(allocate(runner.code_sum_, DType::kI32, {num_tokens, 2}));
  COMET_RETURN_IF_ERROR(allocate(runner.outputs_, DType::kF32, {num_tokens, task.num_outputs}));
  return runner;
}

Result<std::vector<float>> SampleRunner::Run(const PackedLinear& weights,
                                             const ActivationFormat& format) {
  const bool is_float = format.mode == ActivationMode::kFloat;
  LinearInput input{.format = format};
  if (is_float) {
    input.values = values_.view();
  } else {
    input.codes = codes_.view();
    input.scale = scale_.view();
    input.exponent = exponent_.view();
    input.code_sum = code_sum_.view();
  }
  COMET_RETURN_IF_ERROR(backend_.ops->Gather({.out = input, .x = sample_.view()}));
  COMET_RETURN_IF_ERROR(
      backend_.ops->Linear({.y = outputs_.view(), .x = input, .weights = &weights}));
  std::vector<float> outputs(static_cast<size_t>(sample_.view().dim(0)) *
                             static_cast<size_t>(num_outputs_));
  COMET_RETURN_IF_ERROR(
      backend_.device->CopyToHost(outputs.data(), outputs_.view().data(),
                                  static_cast<int64_t>(outputs.size() * sizeof(float))));
  return outputs;
}

std::vector<float> Diagonal(std::span<const float> matrix, int size) {
  std::vector<float> diagonal;
  for (size_t k = 0; k < matrix.size(); k += static_cast<size_t>(size) + 1) {
    diagonal.push_back(matrix[k]);
  }
  return diagonal;
}

// Bits a weight takes in model.safetensors.
double BitsPerWeight(const QuantizedLinear& linear) {
  const double num_bytes = static_cast<double>(linear.codes.size() + linear.steps.size() +
                                               linear.scale.size() * sizeof(float));
  return 8.0 * num_bytes / (static_cast<double>(linear.codes.size()) * 2.0);
}

// Fills the clip and both output errors.
Status MeasureOutputs(Backend& backend, const LinearTask& task, LinearResult& result) {
  const int num_channels = result.linear.num_inputs;
  const int num_int4 = task.num_int4_channels;
  COMET_ASSIGN_OR_RETURN(SampleRunner runner, SampleRunner::Create(backend, task));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> original,
                         backend.ops->PackLinear(FloatWeights{ConstTensorView(
                             task.weights.data(), DType::kF32, {task.num_outputs, num_channels})}));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> quantized,
                         backend.ops->PackLinear(ViewOf(result.linear)));
  COMET_ASSIGN_OR_RETURN(const std::vector<float> expected, runner.Run(*original, {}));

  const auto error_of = [&](ActivationMode mode, float clip) -> Result<double> {
    const ActivationFormat format{
        .mode = mode,
        .num_int4_channels = num_int4,
        .exponent_max = ExponentMax(mode, num_int4, num_channels - num_int4),
        .clip = clip};
    COMET_ASSIGN_OR_RETURN(const std::vector<float> outputs, runner.Run(*quantized, format));
    return RelativeError(outputs, expected);
  };
  COMET_ASSIGN_OR_RETURN(result.accuracy.output_error_8, error_of(ActivationMode::kInt8, 1.0f));
  result.accuracy.output_error_mixed = std::numeric_limits<double>::infinity();
  for (const float clip : kClips) {
    COMET_ASSIGN_OR_RETURN(const double error, error_of(ActivationMode::kMixed, clip));
    if (error >= result.accuracy.output_error_mixed) continue;
    result.accuracy.output_error_mixed = error;
    result.linear.precision.clip = clip;
  }
  return Status::Ok();
}

}  // namespace

Result<LinearResult> QuantizeLinear(Backend& backend, const LinearTask& task,
                                    const WeightSearch& search) {
  TwoLevelWeights weights =
      QuantizeTwoLevel(task.weights, Diagonal(task.gram, task.num_inputs), search.num_threads);
  if (search.feeds_errors_back) {
    FeedBackErrors(task.weights, task.gram, weights, search.num_threads);
  }
  COMET_RETURN_IF_ERROR(RefineWeights(
      backend, task.weights, task.gram,
      {.num_rounds = search.num_refinement_rounds, .num_threads = search.num_threads}, weights));
  LinearResult result;
  QuantizedLinear& linear = result.linear;
  linear.num_outputs = task.num_outputs;
  linear.num_inputs = task.num_inputs;
  linear.precision.num_int4_channels = task.num_int4_channels;
  linear.codes = std::move(weights.codes);
  linear.steps = std::move(weights.steps);
  linear.scale = std::move(weights.scale);

  if (search.keeps_residuals) {
    COMET_ASSIGN_OR_RETURN(result.residuals, CodeResiduals(backend, linear, task.weights, task.gram,
                                                           search.num_threads));
  }

  result.accuracy.weight_error =
      RelativeError(DequantizeInOrder(linear, false, search.num_threads), task.weights);
  result.accuracy.int4_share =
      static_cast<double>(task.num_int4_channels) / static_cast<double>(linear.num_inputs);
  result.accuracy.num_weights =
      static_cast<double>(linear.num_outputs) * static_cast<double>(linear.num_inputs);
  result.accuracy.bits = BitsPerWeight(linear);
  COMET_RETURN_IF_ERROR(MeasureOutputs(backend, task, result));
  return result;
}

W4axWeights ViewOf(const QuantizedLinear& linear) {
  const int n = linear.num_outputs;
  const int k = linear.num_inputs;
  return {.codes = {linear.codes.data(), DType::kU8, {n, k / 2}},
          .steps = {linear.steps.data(), DType::kI8, {n, CeilDiv(k, kBlockChannels)}},
          .scale = {linear.scale.data(), DType::kF32, {n}},
          .num_int4_channels = linear.precision.num_int4_channels};
}

void HadamardBlocks(std::span<float> rows, int num_inputs, int num_channels, int num_threads) {
  const size_t width = static_cast<size_t>(num_inputs);
  ParallelRows(num_threads, static_cast<int>(rows.size() / width), [&](int begin, int end) {
    for (size_t row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row) {
      for (int k = 0; k < num_channels; k += kBlockChannels) {
        HadamardRow(rows.subspan(row * width + static_cast<size_t>(k), kBlockChannels));
      }
    }
  });
}

std::vector<float> DequantizeInLayerOrder(const QuantizedLinear& linear, int num_threads) {
  const size_t width = static_cast<size_t>(linear.num_inputs);
  std::vector<float> weights(static_cast<size_t>(linear.num_outputs) * width);
  const W4axWeights view = ViewOf(linear);
  ParallelRows(num_threads, linear.num_outputs, [&](int begin, int end) {
    std::ranges::copy(Dequantize({.codes = view.codes.Rows(begin, end - begin),
                                  .steps = view.steps.Rows(begin, end - begin),
                                  .scale = view.scale.Rows(begin, end - begin)}),
                      weights.data() + static_cast<size_t>(begin) * width);
  });
  return weights;
}

std::vector<float> DequantizeInOrder(const QuantizedLinear& linear, bool hadamard,
                                     int num_threads) {
  const size_t width = static_cast<size_t>(linear.num_inputs);
  std::vector<float> weights(static_cast<size_t>(linear.num_outputs) * width);
  const W4axWeights view = ViewOf(linear);
  ParallelRows(num_threads, linear.num_outputs, [&](int begin, int end) {
    std::vector<float> rows = Dequantize({.codes = view.codes.Rows(begin, end - begin),
                                          .steps = view.steps.Rows(begin, end - begin),
                                          .scale = view.scale.Rows(begin, end - begin)});
    if (hadamard) {
      HadamardBlocks(rows, linear.num_inputs, linear.precision.num_int4_channels, 1);
    }
    float* out = weights.data() + static_cast<size_t>(begin) * width;
    if (linear.gather.empty()) {
      std::ranges::copy(rows, out);
      return;
    }
    for (size_t first = 0; first < rows.size(); first += width) {
      for (size_t j = 0; j < width; ++j) {
        out[first + static_cast<size_t>(linear.gather[j])] = rows[first + j];
      }
    }
  });
  return weights;
}

}  // namespace comet
