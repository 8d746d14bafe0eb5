#include "engine/quantizer/calibration_streams.h"

#include <algorithm>
#include <functional>

#include "engine/quantizer/layer_linears.h"
#include "engine/quantizer/parallel_rows.h"

namespace comet {
namespace {

// What a linear's result is added to, and the next norm reads.
bool AddsToResidual(LinearKind kind) { return kind == LinearKind::kO || kind == LinearKind::kDown; }

// Windows whose rows go into one product: what is summed up is a matrix [K, K], which costs as much
// as some hundred tokens to add.
constexpr size_t kRowsMin = 2048;

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
  WindowRows gap;
  if (quantized_ && AddsToResidual(kind)) {
    gap = Difference(float_model_.hidden(), quantized_->hidden(), num_threads_);
  }
  COMET_ASSIGN_OR_RETURN(
      const WindowRows float_inputs,
      float_model_.Pass(kind, layer, *LinearsOf(layer)[static_cast<size_t>(kind)]));
  const WindowRows& inputs = quantized_ ? quantized_->inputs() : float_inputs;
  const WindowRows& weighting = AddsToResidual(kind) ? float_model_.hidden() : inputs;

  ActivationStatistics statistics;
  const size_t hidden_size = layer.input_norm.size();
  for (size_t first = 0; first < inputs.size();) {
    size_t count = 0;
    size_t num_tokens = 0;
    while (first + count < inputs.size() && num_tokens < kRowsMin) {
      num_tokens += float_model_.hidden()[first + count++].size() / hidden_size;
    }
    const auto part = [&](const WindowRows& windows) {
      return windows.empty() ? std::span<const HostRows>()
                             : std::span<const HostRows>(windows).subspan(first, count);
    };
    size_t num_values = 0;
    for (const HostRows& window : part(inputs)) num_values += window.size();
    COMET_RETURN_IF_ERROR(
        AddRows(backend_,
                {.num_channels = static_cast<int>(num_values / num_tokens),
                 .sample_stride = sample_stride,
                 .inputs = part(inputs),
                 .float_inputs = quantized_ ? part(float_inputs) : std::span<const HostRows>(),
                 .weighting = part(weighting),
                 .gap = part(gap)},
                num_threads_, statistics));
    first += count;
  }
  return statistics;
}

Status CalibrationStreams::Follow(LinearKind kind, const FloatLayer& layer,
                                  std::span<const float> weights) {
  if (!quantized_) return Status::Ok();
  return quantized_->Pass(kind, layer, weights).status();
}

}  // namespace comet
