#include "engine/quantizer/held_out.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "engine/evaluation/log_likelihood.h"
#include "engine/model/device_tensor.h"
#include "engine/model/layer_runner.h"
#include "engine/quantizer/parallel_rows.h"

namespace comet {
namespace {

// Rows of logits at once, vocab_size floats each.
constexpr int kLogitsRows = 64;

// A model whose parts are made when they are needed.
class LayeredModel {
 public:
  virtual ~LayeredModel() = default;
  virtual const Precision& precision() const = 0;
  virtual Result<std::unique_ptr<PackedLinear>> MakeEmbedding() = 0;
  virtual Result<DecoderLayer> MakeLayer(int layer_idx) = 0;
  virtual Result<DeviceTensor> MakeFinalNorm() = 0;
  virtual Result<std::unique_ptr<PackedLinear>> MakeLmHead() = 0;
};

class LayeredSource final : public LayeredModel {
 public:
  LayeredSource(Backend& backend, FloatSource& source) : backend_(backend), source_(source) {}

  const Precision& precision() const override { return precision_; }

  Result<std::unique_ptr<PackedLinear>> MakeEmbedding() override {
    COMET_ASSIGN_OR_RETURN(const std::vector<float> table, source_.ReadEmbedding());
    return Pack(table);
  }
  Result<DecoderLayer> MakeLayer(int layer_idx) override {
    COMET_ASSIGN_OR_RETURN(const FloatLayer layer, source_.ReadLayer(layer_idx));
    return DecoderLayer::Make(backend_, source_.config(), layer, precision_);
  }
  Result<DeviceTensor> MakeFinalNorm() override {
    COMET_ASSIGN_OR_RETURN(const std::vector<float> norm, source_.ReadFinalNorm());
    return DeviceTensor::Upload(*backend_.device,
                                {norm.data(), DType::kF32, {static_cast<int>(norm.size())}});
  }
  Result<std::unique_ptr<PackedLinear>> MakeLmHead() override {
    if (source_.config().tied_embeddings) return MakeEmbedding();
    COMET_ASSIGN_OR_RETURN(const std::vector<float> table, source_.ReadLmHead());
    return Pack(table);
  }

 private:
  Result<std::unique_ptr<PackedLinear>> Pack(const std::vector<float>& table) {
    const ModelConfig& config = source_.config();
    return backend_.ops->PackLinear(FloatWeights{
        ConstTensorView(table.data(), DType::kF32, {config.vocab_size, config.hidden_size})});
  }

  Backend& backend_;
  FloatSource& source_;
  Precision precision_{.weights = WeightMode::kFloat,
                       .activations = ActivationMode::kFloat,
                       .kv = {.k_bits = 16, .v_bits = 16},
                       .kv_from_checkpoint = false};
};

class LayeredCheckpoint final : public LayeredModel {
 public:
  LayeredCheckpoint(Backend& backend, const Checkpoint& checkpoint, ActivationMode activations)
      : backend_(backend), checkpoint_(checkpoint) {
    precision_.activations = activations;
  }

  const Precision& precision() const override { return precision_; }

  Result<std::unique_ptr<PackedLinear>> MakeEmbedding() override {
    if (!checkpoint_.embedding().is_present()) return MakeLmHead();
    return backend_.ops->PackLinear(FloatWeights{checkpoint_.embedding()});
  }
  Result<DecoderLayer> MakeLayer(int layer_idx) override {
    return DecoderLayer::Make(backend_, checkpoint_.config(), checkpoint_.layer(layer_idx),
                              precision_);
  }
  Result<DeviceTensor> MakeFinalNorm() override {
    return DeviceTensor::Upload(*backend_.device, checkpoint_.final_norm());
  }
  Result<std::unique_ptr<PackedLinear>> MakeLmHead() override {
    return backend_.ops->PackLinear(checkpoint_.lm_head());
  }

 private:
  Backend& backend_;
  const Checkpoint& checkpoint_;
  Precision precision_;
};

// One model over all windows.
class HeldOutRun {
 public:
  HeldOutRun(Backend& backend, const ModelConfig& config, LayeredModel& model,
             std::span<const std::vector<int>> windows, int num_threads)
      : backend_(backend),
        config_(config),
        model_(model),
        windows_(windows),
        num_threads_(num_threads) {}

  Result<double> Perplexity();

 private:
  bool is_float() const { return model_.precision().activations == ActivationMode::kFloat; }
  Status Embed();
  Status RunLayers();
  Status AllocateHead();
  // Adds the log-likelihoods of one window's predictions.
  Status AddWindow(size_t window_idx);
  LinearInput HeadInput(int num_rows) const;

  Backend& backend_;
  const ModelConfig& config_;
  LayeredModel& model_;
  std::span<const std::vector<int>> windows_;
  int num_threads_;
  std::vector<DeviceTensor> hidden_;  // One a window.
  DeviceTensor final_norm_;
  std::unique_ptr<PackedLinear> lm_head_;
  DeviceTensor head_values_;  // [kLogitsRows, hidden]: f32 values or i8 codes.
  DeviceTensor head_scale_;   // [kLogitsRows] f32; integer modes only, as the two after it.
  DeviceTensor head_exponent_;
  DeviceTensor head_code_sum_;
  DeviceTensor logits_;  // [kLogitsRows, vocab] f32
  std::vector<float> host_logits_;
  double log_likelihood_ = 0.0;
  int64_t num_predictions_ = 0;
};

Result<double> HeldOutRun::Perplexity() {
  COMET_RETURN_IF_ERROR(Embed());
  COMET_RETURN_IF_ERROR(RunLayers());
  COMET_RETURN_IF_ERROR(AllocateHead());
  for (size_t i = 0; i < windows_.size(); ++i) COMET_RETURN_IF_ERROR(AddWindow(i));
  const double mean = log_likelihood_ / static_cast<double>(num_predictions_);
  return std::isfinite(mean) ? std::exp(-mean) : std::numeric_limits<double>::quiet_NaN();
}

Status HeldOutRun::Embed() {
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> table, model_.MakeEmbedding());
  for (const std::vector<int>& window : windows_) {
    const int num_tokens = static_cast<int>(window.size());
    COMET_ASSIGN_OR_RETURN(
        const DeviceTensor ids,
        DeviceTensor::Upload(*backend_.device, {window.data(), DType::kI32, {num_tokens}}));
    COMET_ASSIGN_OR_RETURN(
        DeviceTensor hidden,
        DeviceTensor::Allocate(*backend_.device, is_float() ? DType::kF32 : DType::kF16,
                               {num_tokens, config_.hidden_size}));
    COMET_RETURN_IF_ERROR(
        backend_.ops->Embedding({.out = hidden.view(), .ids = ids.view(), .table = table.get()}));
    COMET_RETURN_IF_ERROR(
        backend_.device->Synchronize());  // `ids` and, after the last, `table` go.
    hidden_.push_back(std::move(hidden));
  }
  return Status::Ok();
}

Status HeldOutRun::RunLayers() {
  size_t tokens_max = 0;
  for (const std::vector<int>& window : windows_) tokens_max = std::max(tokens_max, window.size());
  COMET_ASSIGN_OR_RETURN(
      LayerRunner runner,
      LayerRunner::Create(backend_, config_, model_.precision(), static_cast<int>(tokens_max)));
  for (int i = 0; i < config_.num_layers; ++i) {
    COMET_ASSIGN_OR_RETURN(const DecoderLayer layer, model_.MakeLayer(i));
    for (const DeviceTensor& hidden : hidden_) {
      COMET_RETURN_IF_ERROR(runner.Run(layer, hidden.view()));
    }
    COMET_RETURN_IF_ERROR(backend_.device->Synchronize());  // The layer's weights go.
  }
  return Status::Ok();
}

Status HeldOutRun::AllocateHead() {
  COMET_ASSIGN_OR_RETURN(final_norm_, model_.MakeFinalNorm());
  COMET_ASSIGN_OR_RETURN(lm_head_, model_.MakeLmHead());
  const auto allocate = [&](DeviceTensor& tensor, DType dtype, TensorShape shape) -> Status {
    COMET_ASSIGN_OR_RETURN(tensor, DeviceTensor::Allocate(*backend_.device, dtype, shape));
    return Status::Ok();
  };
  COMET_RETURN_IF_ERROR(allocate(logits_, DType::kF32, {kLogitsRows, config_.vocab_size}));
  COMET_RETURN_IF_ERROR(allocate(head_values_, is_float() ? DType::kF32 : DType::kI8,
                                 {kLogitsRows, config_.hidden_size}));
  if (is_float()) return Status::Ok();
  COMET_RETURN_IF_ERROR(allocate(head_scale_, DType::kF32, {kLogitsRows}));
  COMET_RETURN_IF_ERROR(allocate(head_exponent_, DType::kI32, {kLogitsRows}));
  return allocate(head_code_sum_, DType::kI32, {kLogitsRows, 2});
}

LinearInput HeldOutRun::HeadInput(int num_rows) const {
  LinearInput input;
  if (is_float()) {
    input.values = head_values_.view().Rows(0, num_rows);
    return input;
  }
  input.format.mode = ActivationMode::kInt8;
  input.codes = head_values_.view().Rows(0, num_rows);
  input.scale = head_scale_.view().Rows(0, num_rows);
  input.exponent = head_exponent_.view().Rows(0, num_rows);
  input.code_sum = head_code_sum_.view().Rows(0, num_rows);
  return input;
}

Status HeldOutRun::AddWindow(size_t window_idx) {
  const std::vector<int>& ids = windows_[window_idx];
  const size_t vocab_size = static_cast<size_t>(config_.vocab_size);
  const int num_rows = static_cast<int>(ids.size()) - 1;  // The last token predicts nothing.
  for (int first = 0; first < num_rows; first += kLogitsRows) {
    const int count = std::min(kLogitsRows, num_rows - first);
    const LinearInput input = HeadInput(count);
    const TensorView logits = logits_.view().Rows(0, count);
    COMET_RETURN_IF_ERROR(backend_.ops->RmsNorm({.out = input,
                                                 .x = hidden_[window_idx].view().Rows(first, count),
                                                 .weight = final_norm_.view(),
                                                 .epsilon = config_.rms_norm_epsilon}));
    COMET_RETURN_IF_ERROR(
        backend_.ops->Linear({.y = logits, .x = input, .weights = lm_head_.get()}));
    host_logits_.resize(static_cast<size_t>(count) * vocab_size);
    COMET_RETURN_IF_ERROR(
        backend_.device->CopyToHost(host_logits_.data(), logits.data(),
                                    static_cast<int64_t>(host_logits_.size() * sizeof(float))));
    std::array<double, kLogitsRows> likelihoods{};
    ParallelRows(num_threads_, count, [&](int begin, int end) {
      for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        const std::span<const float> row(host_logits_.data() + i * vocab_size, vocab_size);
        likelihoods[i] = LogLikelihood(row, ids[static_cast<size_t>(first) + i + 1]);
      }
    });
    for (int i = 0; i < count; ++i) log_likelihood_ += likelihoods[static_cast<size_t>(i)];
    num_predictions_ += count;
  }
  return Status::Ok();
}

}  // namespace

Result<HeldOutPerplexity> MeasureHeldOut(Backend& backend, FloatSource& source,
                                         const Checkpoint& checkpoint,
                                         std::span<const std::vector<int>> windows, int num_threads,
                                         const std::function<void(std::string_view)>& progress) {
  HeldOutPerplexity result;
  for (const std::vector<int>& window : windows) {
    result.num_predictions += static_cast<int64_t>(window.size()) - 1;
  }
  const auto measure = [&](LayeredModel& model, std::string_view what, double& out) -> Status {
    COMET_ASSIGN_OR_RETURN(
        out, HeldOutRun(backend, source.config(), model, windows, num_threads).Perplexity());
    if (progress) progress(what);
    return Status::Ok();
  };
  LayeredSource float_model(backend, source);
  LayeredCheckpoint int8_model(backend, checkpoint, ActivationMode::kInt8);
  LayeredCheckpoint mixed_model(backend, checkpoint, ActivationMode::kMixed);
  COMET_RETURN_IF_ERROR(measure(float_model, "held-out text, float", result.source));
  COMET_RETURN_IF_ERROR(measure(int8_model, "held-out text, 8-bit activations", result.int8));
  COMET_RETURN_IF_ERROR(measure(mixed_model, "held-out text, mixed activations", result.mixed));
  return result;
}

}  // namespace comet
