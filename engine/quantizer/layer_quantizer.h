#pragma once

#include "engine/loader/checkpoint_writer.h"
#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"
#include "engine/quantizer/accuracy_report.h"
#include "engine/quantizer/activation_statistics.h"
#include "engine/quantizer/calibration_streams.h"
#include "engine/quantizer/latent_codes.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/precision_budget.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct LayerQuantizerOptions {
  LayerInt4Channels int4_channels;
  float damping = 0.1f;       // Of the gram matrices, in units of their mean diagonal.
  float gap_share = 0.5f;     // See WeightTargetOptions.
  bool down_hadamard = true;  // See LayerPrecision.
  int sample_stride = 1;      // Of the tokens that output errors are measured on.
  WeightSearch search;
};

struct LayerResult {
  QuantizedLayer layer;    // kv and qk_hadamard are left to the caller.
  LayerAccuracy accuracy;  // keys likewise.
  LayerResiduals residuals;
};

// Quantises the four linears of one layer in turn, each from what both models of `streams` give it
// once the ones before are quantised: its weights' target, the order of its channels, codes,
// errors. down_proj's order goes into the rows of gate and up. `qkv` is what the streams saw at the
// first, which they have not followed yet; they end behind the layer. Errors: those of the back
// end.
Result<LayerResult> QuantizeLayer(Backend& backend, const FloatLayer& layer,
                                  const ActivationStatistics& qkv, CalibrationStreams& streams,
                                  const LayerQuantizerOptions& options);

}  // namespace comet
