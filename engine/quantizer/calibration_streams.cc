#include "engine/quantizer/calibration_streams.h"

#include <algorithm>
#include <functional>

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

WindowRows Difference(const WindowRows& a, const WindowRows& b) {
  WindowRows difference = a;
  for (size_t i = 0; i < a.size(); ++i) {
    std::ranges::transform(a[i], b[i], difference[i].begin(), std::minus<>());
  }
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
    gap = Difference(float_model_.hidden(), quantized_->hidden());
  }
  COMET_RETURN_IF_ERROR(float_model_.Pass(kind, layer, WeightsOf(layer, kind)));

  ActivationStatistics statistics;
  const size_t hidden_size = layer.input_norm.size();
  for (size_t i = 0; i < float_inputs.size(); ++i) {
    CalibrationRows rows{.inputs = float_inputs[i]};
    if (quantized_) {
      rows.float_inputs = float_inputs[i];
      rows.inputs = quantized_->inputs()[i];
    }
    if (!gap.empty()) rows.gap = gap[i];
    rows.weighting =
        AddsToResidual(kind) ? std::span<const float>(float_model_.hidden()[i]) : rows.inputs;
    const size_t num_tokens = float_model_.hidden()[i].size() / hidden_size;
    COMET_RETURN_IF_ERROR(AddWindow(backend_, rows,
                                    static_cast<int>(rows.inputs.size() / num_tokens),
                                    sample_stride, statistics));
  }
  return statistics;
}

Status CalibrationStreams::Follow(LinearKind kind, const FloatLayer& layer,
                                  std::span<const float> weights) {
  if (!quantized_) return Status::Ok();
  return quantized_->Pass(kind, layer, weights);
}

}  // namespace comet
