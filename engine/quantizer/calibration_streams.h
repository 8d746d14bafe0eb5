#pragma once

#include <optional>

#include "engine/loader/float_source.h"
#include "engine/model/decoder_layer.h"
#include "engine/quantizer/activation_statistics.h"
#include "engine/quantizer/residual_stream.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// The calibration windows in the float model and, where calibration follows it, in the model whose
// linears are quantised so far. Confined to one thread.
class CalibrationStreams {
 public:
  // `quantized`: none to calibrate on the float model alone.
  CalibrationStreams(Backend& backend, ResidualStream float_model,
                     std::optional<ResidualStream> quantized, int num_threads)
      : backend_(backend),
        num_threads_(num_threads),
        float_model_(std::move(float_model)),
        quantized_(std::move(quantized)) {}

  void BeginLayer(const FloatLayer& layer);

  // What both models give the linear whose turn it is (see AddRows()); the float model goes past
  // it. Errors: those of the back end.
  Result<ActivationStatistics> See(LinearKind kind, const FloatLayer& layer, int sample_stride);

  // The quantised model goes past the linear as it has become, `weights` [N, K] in the producer's
  // order of channels.
  Status Follow(LinearKind kind, const FloatLayer& layer, std::span<const float> weights);

  const WindowRows& float_hidden() const { return float_model_.hidden(); }

 private:
  Backend& backend_;
  int num_threads_;
  ResidualStream float_model_;
  std::optional<ResidualStream> quantized_;
};

}  // namespace comet
