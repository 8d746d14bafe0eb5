#include "engine/quantizer/model_tuner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numbers>
#include <numeric>

#include "engine/model/pack_floats.h"
#include "engine/quantizer/adam.h"
#include "engine/quantizer/decoder_gradient.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/host_layer.h"
#include "engine/quantizer/latent_codes.h"
#include "engine/quantizer/layer_linears.h"
#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/served_product.h"
#include "engine/quantizer/transposed.h"
#include "kernels/base/exact_exp.h"
#include "kernels/base/math.h"
#include "kernels/base/row_functions.h"
#include "kernels/base/str_cat.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

constexpr int kWarmupSteps = 4;
constexpr float kTiny = 1e-12f;
constexpr float kFactorMin = 0.1f;  // A scale stays positive.
// Of a weight whose code is tuned: latent, gradient, its two means, and what it was rounded from.
constexpr int64_t kLatentBytes = 4 * sizeof(float) + 1;

// One vector of factors under Adam.
class AdamVector {
 public:
  explicit AdamVector(size_t size) : mean_(size), square_(size) {}

  void Step(const std::vector<float>& gradient, int step, float rate, std::vector<float>& values) {
    const float mean_share = ShareGathered(kMomentum, step);
    const float square_share = ShareGathered(kSquareMomentum, step);
    for (size_t i = 0; i < values.size(); ++i) {
      mean_[i] = kMomentum * mean_[i] + (1.0f - kMomentum) * gradient[i];
      square_[i] =
          kSquareMomentum * square_[i] + (1.0f - kSquareMomentum) * gradient[i] * gradient[i];
      const float length = std::sqrt(square_[i] / square_share) + kTiny;
      values[i] = std::max(values[i] - rate * (mean_[i] / mean_share) / length, kFactorMin);
    }
  }

 private:
  std::vector<float> mean_;
  std::vector<float> square_;
};

// Every factor of the model; or their gradients.
struct ModelFactors {
  std::vector<LayerFactors> layers;
  std::vector<float> final_norm;

  // In a fixed order.
  std::vector<std::vector<float>*> Vectors() {
    std::vector<std::vector<float>*> vectors;
    for (LayerFactors& layer : layers) {
      for (std::vector<float>& scale : layer.scale) vectors.push_back(&scale);
      vectors.push_back(&layer.input_norm);
      vectors.push_back(&layer.post_attention_norm);
    }
    vectors.push_back(&final_norm);
    return vectors;
  }
};

// Steps through all windows, neighbours far from each other: the text's parts come mixed.
size_t MixingStride(size_t num_windows) {
  constexpr double kGoldenRatio = 0.618;
  size_t stride =
      std::max<size_t>(1, static_cast<size_t>(kGoldenRatio * static_cast<double>(num_windows)));
  while (std::gcd(stride, num_windows) != 1) ++stride;
  return stride;
}

// The largest logit and the logarithm of the sum of exponentials beyond it.
struct LogSum {
  explicit LogSum(std::span<const float> logits)
      : highest(MaxOf(logits)), log_sum(std::log(SumOfExp(highest, logits))) {}

  float highest;
  float log_sum;
};

// The divergence of a row's distribution from the wanted one; the row becomes its gradient.
COMET_WIDE_VECTORS float DivergenceOfRow(const float* __restrict wanted, const LogSum& of_wanted,
                                         const LogSum& of_row, size_t vocab,
                                         float* __restrict row) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> lanes{};
  const float wanted_highest = of_wanted.highest;
  const float wanted_log_sum = of_wanted.log_sum;
  const float row_highest = of_row.highest;
  const float row_log_sum = of_row.log_sum;
  const auto term = [&](size_t i) {
    const float log_p = wanted[i] - wanted_highest - wanted_log_sum;
    const float log_q = row[i] - row_highest - row_log_sum;
    const float p = InlineExp(log_p);
    row[i] = InlineExp(log_q) - p;
    return p * (log_p - log_q);
  };
  const size_t whole = vocab / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  float sum = 0.0f;
  for (size_t i = whole; i < vocab; ++i) sum += term(i);
  for (const float lane : lanes) sum += lane;
  return sum;
}

class Tuner {
 public:
  static Result<Tuner> Create(Backend& backend, const ModelConfig& config, const TuningTask& task,
                              const TuningOptions& options, std::span<QuantizedLayer> layers);

  Result<TuningResult> Run(const std::function<void()>& on_step);
  void Apply(std::vector<float>& final_norm) const;

 private:
  Tuner(Backend& backend, const ModelConfig& config, const TuningTask& task,
        const TuningOptions& options, std::span<QuantizedLayer> layers)
      : backend_(backend), config_(config), task_(task), options_(options), quantized_(layers) {}

  // Of the next layer, which is not yet in layers_.
  void AddLatents();
  // Adds the window's divergences, summed over its tokens, and their gradient.
  Status AddWindow(size_t window, double& loss);
  // Of the rows' distributions in logits_ from those in target_, summed; logits_ become its
  // gradient.
  double Divergence();
  float ShareAt(int step) const;
  Status MoveCodes(int step);

  Backend& backend_;
  const ModelConfig& config_;
  const TuningTask& task_;
  const TuningOptions& options_;
  std::span<QuantizedLayer> quantized_;
  std::vector<DifferentiableLayer> layers_;
  std::vector<std::vector<LatentCodes>> latents_;  // [layer][linear]
  std::vector<WeightGradients> d_weights_;
  std::unique_ptr<PackedLinear> float_head_;
  std::unique_ptr<PackedLinear> head_;
  std::unique_ptr<PackedLinear> head_backward_;
  ModelFactors factors_;
  ModelFactors gradient_;
  std::vector<LayerTape> tapes_;
  HostRows target_;  // [window's tokens, vocab]
  HostRows logits_;
};

Result<Tuner> Tuner::Create(Backend& backend, const ModelConfig& config, const TuningTask& task,
                            const TuningOptions& options, std::span<QuantizedLayer> layers) {
  Tuner tuner(backend, config, task, options, layers);
  size_t values_max = 0;
  for (const HostRows& rows : task.inputs) values_max = std::max(values_max, rows.size());
  const int window_tokens_max = static_cast<int>(values_max) / config.hidden_size;
  for (const QuantizedLayer& layer : layers) {
    COMET_ASSIGN_OR_RETURN(DifferentiableLayer made,
                           DifferentiableLayer::Make(backend, config, layer,
                                                     {.window_tokens_max = window_tokens_max,
                                                      .num_threads = options.num_threads}));
    tuner.factors_.layers.push_back(made.UnitFactors());
    if (options.code_rate > 0.0f) tuner.AddLatents();
    tuner.layers_.push_back(std::move(made));
  }
  tuner.factors_.final_norm.assign(task.float_norm.size(), 1.0f);
  tuner.gradient_ = tuner.factors_;
  tuner.tapes_.resize(layers.size());
  const int hidden = config.hidden_size;
  COMET_ASSIGN_OR_RETURN(tuner.float_head_,
                         PackFloats(*backend.ops, task.float_head, config.vocab_size, hidden));
  const Int8Weights head{
      .codes = {task.quantized_head->codes.data(), DType::kI8, {config.vocab_size, hidden}},
      .scale = {task.quantized_head->scale.data(), DType::kF32, {config.vocab_size}}};
  COMET_ASSIGN_OR_RETURN(tuner.head_, backend.ops->PackLinear(head));
  COMET_ASSIGN_OR_RETURN(
      tuner.head_backward_,
      PackFloats(*backend.ops, Transposed(Dequantize(head), hidden, options.num_threads), hidden,
                 config.vocab_size));
  return tuner;
}

void Tuner::AddLatents() {
  const size_t layer_idx = layers_.size();
  const auto linears = LinearsOf(quantized_[layer_idx]);
  std::vector<LatentCodes>& latents = latents_.emplace_back();
  for (size_t kind = 0; kind < linears.size(); ++kind) {
    std::span<const int8_t> residuals;
    if (!task_.residuals.empty()) residuals = task_.residuals[layer_idx][kind];
    latents.emplace_back(*linears[kind], residuals, options_.num_threads);
  }
  d_weights_.emplace_back();
}

Result<TuningResult> Tuner::Run(const std::function<void()>& on_step) {
  std::vector<AdamVector> adam;
  for (const std::vector<float>* vector : factors_.Vectors()) adam.emplace_back(vector->size());
  TuningResult result{.has_codes = !latents_.empty()};
  const size_t num_windows = task_.inputs.size();
  const size_t stride = MixingStride(num_windows);
  size_t turn = 0;
  for (int step = 0; step < options_.num_steps; ++step) {
    for (std::vector<float>* vector : gradient_.Vectors()) std::ranges::fill(*vector, 0.0f);
    for (WeightGradients& layer : d_weights_) {
      for (HostRows& rows : layer) rows.clear();
    }
    double loss = 0.0;
    size_t num_tokens = 0;
    for (size_t i = 0; i < num_windows; ++i) {
      if (num_tokens >= static_cast<size_t>(options_.step_tokens)) break;
      const size_t window = turn * stride % num_windows;
      COMET_RETURN_IF_ERROR(AddWindow(window, loss));
      num_tokens += task_.inputs[window].size() / task_.float_norm.size();
      ++turn;
    }
    const std::vector<std::vector<float>*> gradients = gradient_.Vectors();
    // What is infinite in a product's gradient is so in its scale's: no code moves by it.
    for (const std::vector<float>* gradient : gradients) {
      if (!std::ranges::all_of(*gradient, [](float value) { return std::isfinite(value); })) {
        return FailedPrecondition(
            StrCat("tuning: a gradient of step ", step + 1, " is no finite number"));
      }
    }
    const std::vector<std::vector<float>*> values = factors_.Vectors();
    for (size_t i = 0; i < values.size(); ++i) {
      // Adam divides the length of the gradient out: a sum serves as well as a mean.
      adam[i].Step(*gradients[i], step + 1, options_.rate * ShareAt(step), *values[i]);
    }
    if (!latents_.empty()) COMET_RETURN_IF_ERROR(MoveCodes(step));
    result.last_loss = loss / static_cast<double>(num_tokens);
    if (step == 0) result.first_loss = result.last_loss;
    ++result.num_steps;
    if (on_step) on_step();
  }
  return result;
}

// Rises over the first steps, then falls to zero along a cosine.
float Tuner::ShareAt(int step) const {
  const float warmup = std::min(1.0f, static_cast<float>(step + 1) / kWarmupSteps);
  const float share = static_cast<float>(step) / static_cast<float>(options_.num_steps);
  return warmup * 0.5f * (1.0f + std::cos(std::numbers::pi_v<float> * share));
}

// The layers take the codes that come of it.
Status Tuner::MoveCodes(int step) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto linears = LinearsOf(quantized_[i]);
    for (size_t kind = 0; kind < linears.size(); ++kind) {
      latents_[i][kind].Step(d_weights_[i][kind],
                             {.step = step + 1,
                              .rate = options_.code_rate * ShareAt(step),
                              .num_threads = options_.num_threads},
                             *linears[kind]);
    }
    COMET_RETURN_IF_ERROR(layers_[i].SetCodes(quantized_[i]));
  }
  return Status::Ok();
}

Status Tuner::AddWindow(size_t window, double& loss) {
  HostRows hidden = task_.inputs[window];
  for (size_t i = 0; i < layers_.size(); ++i) {
    COMET_RETURN_IF_ERROR(layers_[i].Forward(factors_.layers[i], hidden, tapes_[i]));
  }
  const float epsilon = config_.rms_norm_epsilon;
  const int num_threads = options_.num_threads;
  const std::vector<float> ones(task_.float_norm.size(), 1.0f);
  COMET_RETURN_IF_ERROR(MultiplyByTransposed(
      backend_, NormRows(task_.float_outputs[window], task_.float_norm, ones, epsilon, num_threads),
      *float_head_, target_));
  COMET_RETURN_IF_ERROR(
      MultiplyCodes(backend_, {.mode = ActivationMode::kInt8},
                    NormRows(hidden, task_.float_norm, factors_.final_norm, epsilon, num_threads),
                    *head_, logits_));
  loss += Divergence();
  if (!std::isfinite(loss)) {
    return FailedPrecondition(
        "tuning: a divergence is no finite number, so neither are the model's logits");
  }
  COMET_ASSIGN_OR_RETURN(const HostRows d_normed,
                         MultiplyByTransposed(backend_, logits_, *head_backward_));
  HostRows d_hidden(hidden.size(), 0.0f);
  AddNormRowsGradient({.hidden = hidden,
                       .weight = task_.float_norm,
                       .factor = factors_.final_norm,
                       .epsilon = epsilon},
                      d_normed, num_threads, d_hidden, gradient_.final_norm);
  for (size_t i = layers_.size(); i-- > 0;) {
    COMET_RETURN_IF_ERROR(layers_[i].Backward(factors_.layers[i], tapes_[i], d_hidden,
                                              gradient_.layers[i],
                                              d_weights_.empty() ? nullptr : &d_weights_[i]));
  }
  return Status::Ok();
}

double Tuner::Divergence() {
  const size_t vocab = static_cast<size_t>(config_.vocab_size);
  std::vector<float> divergences(logits_.size() / vocab);
  ParallelRows(options_.num_threads, static_cast<int>(divergences.size()), [&](int begin, int end) {
    for (size_t t = static_cast<size_t>(begin); t < static_cast<size_t>(end); ++t) {
      const std::span<const float> wanted =
          std::span<const float>(target_).subspan(t * vocab, vocab);
      const std::span<float> row = std::span(logits_).subspan(t * vocab, vocab);
      divergences[t] =
          DivergenceOfRow(wanted.data(), LogSum(wanted), LogSum(row), vocab, row.data());
    }
  });
  double sum = 0.0;
  for (const float divergence : divergences) sum += double{divergence};
  return sum;
}

void Multiply(std::vector<float>& values, const std::vector<float>& factors) {
  for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i];
}

void Tuner::Apply(std::vector<float>& final_norm) const {
  for (size_t i = 0; i < quantized_.size(); ++i) {
    const LayerFactors& factors = factors_.layers[i];
    QuantizedLayer& layer = quantized_[i];
    const auto linears = LinearsOf(layer);
    for (size_t kind = 0; kind < factors.scale.size(); ++kind) {
      Multiply(linears[kind]->scale, factors.scale[kind]);
    }
    Multiply(layer.input_norm, factors.input_norm);
    Multiply(layer.post_attention_norm, factors.post_attention_norm);
  }
  Multiply(final_norm, factors_.final_norm);
}

}  // namespace

int64_t TuningWindows(const TuningOptions& options, int window_tokens) {
  return int64_t{options.num_steps} * CeilDiv(options.step_tokens, window_tokens);
}

int StepsOfOneEpoch(const TuningOptions& options, int64_t num_windows, int window_tokens) {
  const int64_t windows_a_step = CeilDiv(options.step_tokens, window_tokens);
  const int64_t steps = std::max<int64_t>(1, num_windows / windows_a_step);
  return static_cast<int>(std::min<int64_t>(options.num_steps, steps));
}

TuningSize SizeOfTuning(const ModelConfig& config, int window_tokens, const TuningOptions& options,
                        int64_t bytes_max) {
  if (options.num_steps == 0) return {};
  const int64_t hidden = config.hidden_size;
  const int64_t layer_weights = hidden * (config.qkv_size() + config.q_size()) +
                                3 * hidden * static_cast<int64_t>(config.ffn_size);
  const int64_t layer_tape = window_tokens * (6 * hidden + 2 * config.qkv_size() + config.q_size() +
                                              3 * int64_t{config.ffn_size});
  const int64_t head = hidden * config.vocab_size;
  const int64_t logits = int64_t{window_tokens} * config.vocab_size;
  // Transposed weights beside the codes, the layer's and the back end's; the float head and the
  // quantised one's transpose, each once more where it is made of, and the latter's codes twice.
  const int64_t num_floats =
      config.num_layers * (layer_weights + layer_tape) + 5 * head + 3 * logits;
  // Both models' rows of all windows, ahead of the first layer and behind the last.
  const int64_t window_floats = 2 * TuningWindows(options, window_tokens) * window_tokens * hidden;
  const int64_t fixed_bytes = (num_floats + window_floats) * static_cast<int64_t>(sizeof(float)) +
                              config.num_layers * layer_weights + 2 * head;
  if (fixed_bytes > bytes_max) return {};
  const int64_t code_bytes = config.num_layers * layer_weights * kLatentBytes;
  if (options.code_rate == 0.0f || fixed_bytes + code_bytes > bytes_max)
    return {fixed_bytes, false};
  return {fixed_bytes + code_bytes, true};
}

Result<TuningResult> TuneModel(Backend& backend, const ModelConfig& config, const TuningTask& task,
                               const TuningOptions& options, std::span<QuantizedLayer> layers,
                               std::vector<float>& final_norm,
                               const std::function<void()>& on_step) {
  COMET_ASSIGN_OR_RETURN(Tuner tuner, Tuner::Create(backend, config, task, options, layers));
  COMET_ASSIGN_OR_RETURN(const TuningResult result, tuner.Run(on_step));
  tuner.Apply(final_norm);
  return result;
}

}  // namespace comet
