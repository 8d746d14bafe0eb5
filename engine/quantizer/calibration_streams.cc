#include "engine/quantizer/calibration_streams.h"

#include <algorithm>
#include <functional>

#include "engine/quantizer/parallel_rows.h"

namespace comet {
namespace {

// What a linear's result is added to, and the next norm reads.
bool AddsToResidual(LinearKind kind) { return kind == LinearKind::kO || kind == LinearKind::kDown; }

std::span<const float> WeightsOf(const FloatLayer& layer, LinearKind kind) {
  switch (kind) {
    case LinearKind::kQkv: return layer.qkv;
    case LinearKind::kO: return layer.o;
    case LinearKind::kGateUp: return layer.gate_up;
    case LinearKind::kDown: return layer.down;
  }
  return {};
}

// Windows whose rows go into one product: what is summed up is a matrix [K, K], which costs as much
// as some hundred tokens to add.
constexpr size_t kRowsMin = 2048;

struct Rows {
  size_t num_tokens = 0;
  std::vector<float> inputs;
  std::vector<float> float_inputs;
  std::vector<float> gap;
  std::vector<float> residual;
};

void Append(const std::vector<float>& values, std::vector<float>& rows) {
  rows.insert(rows.end(), values.begin(), values.end());
}

WindowRows Difference(const WindowRows& a, const WindowRows& b, int num_threads) {
  WindowRows difference(a.size());
  ParallelRows(num_threads, static_cast<int>(a.size()), [&](int first, int last) {
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      difference[i].resize(a[i].size());
      std::ranges::transform(a[i], b[i], difference[i].begin(), std::minus<>());
    }
  });
  return difference;
}

}  // namespace

void CalibrationStreams::BeginLayer(const FloatLayer& layer) {
  float_model_.BeginLayer(layer);
  if (quantized_) quantized_->BeginLayer(layer);
}

Result<ActivationStatistics> CalibrationStreams::See(LinearKind kind, const FloatLayer& layer,
                                                     int sample_stride) {
  const WindowRows float_inputs = float_model_.inputs();
  WindowRows gap;
  if (quantized_ && AddsToResidual(kind)) {
    gap = Difference(float_model_.hidden(), quantized_->hidden(), num_threads_);
  }
  COMET_RETURN_IF_ERROR(float_model_.Pass(kind, layer, WeightsOf(layer, kind)));

  ActivationStatistics statistics;
  const size_t hidden_size = layer.input_norm.size();
  Rows rows;
  for (size_t i = 0; i < float_inputs.size(); ++i) {
    const std::vector<float>& inputs = quantized_ ? quantized_->inputs()[i] : float_inputs[i];
    Append(inputs, rows.inputs);
    if (quantized_) Append(float_inputs[i], rows.float_inputs);
    if (!gap.empty()) Append(gap[i], rows.gap);
    if (AddsToResidual(kind)) Append(float_model_.hidden()[i], rows.residual);
    rows.num_tokens += float_model_.hidden()[i].size() / hidden_size;
    if (rows.num_tokens < kRowsMin && i + 1 < float_inputs.size()) continue;
    COMET_RETURN_IF_ERROR(
        AddRows(backend_,
                {.num_channels = static_cast<int>(rows.inputs.size() / rows.num_tokens),
                 .sample_stride = sample_stride,
                 .inputs = rows.inputs,
                 .float_inputs = rows.float_inputs,
                 .weighting = AddsToResidual(kind) ? rows.residual : rows.inputs,
                 .gap = rows.gap},
                num_threads_, statistics));
    rows = {};
  }
  return statistics;
}

Status CalibrationStreams::Follow(LinearKind kind, const FloatLayer& layer,
                                  std::span<const float> weights) {
  if (!quantized_) return Status::Ok();
  return quantized_->Pass(kind, layer, weights);
}

}  // namespace comet
