#pragma once

#include "engine/loader/checkpoint_writer.h"
#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"
#include "engine/quantizer/accuracy_report.h"
#include "engine/quantizer/activation_statistics.h"
#include "engine/quantizer/linear_quantizer.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct LayerQuantizerOptions {
  double int4_share = 0.84;
  float damping = 0.1f;  // Of the gram matrices, in units of their mean diagonal.
  WeightSearch search;
};

struct LayerResult {
  QuantizedLayer layer;    // kv and qk_hadamard are left to the caller.
  LayerAccuracy accuracy;  // keys likewise.
};

// Quantises the four linears of one layer from what calibration saw at their inputs: orders the
// channels of each, folds down_proj's order into the rows of gate and up, quantises and measures.
// Errors: those of the back end.
Result<LayerResult> QuantizeLayer(Backend& backend, const ModelConfig& config,
                                  const FloatLayer& layer, const StatisticsObserver& statistics,
                                  const LayerQuantizerOptions& options);

}  // namespace comet
