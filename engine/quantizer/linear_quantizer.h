#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "engine/quantizer/activation_statistics.h"
#include "engine/quantizer/channel_order.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// How far one quantised linear layer is from its float original. Errors are relative: the root of
// the squared difference over the squared original.
struct LinearAccuracy {
  double weight_error = 0.0;
  double output_error_8 = 0.0;      // On the calibration sample, INT8 activations.
  double output_error_mixed = 0.0;  // The same, INT4 and INT8 activations with the chosen clip.
  double int4_share = 0.0;          // Of the real channels.
  double num_weights = 0.0;
  double bits = 0.0;  // Held in the checkpoint for one weight, steps and scales included.
};

struct LinearResult {
  QuantizedLinear linear;
  LinearAccuracy accuracy;
  std::vector<int8_t> residuals;  // CodeResiduals(), or empty.
};

// One float linear layer with what calibration saw of it, both already in the order of `order`.
struct LinearTask {
  int num_outputs = 0;
  int num_inputs = 0;
  std::span<const float> weights;  // [N, K], columns permuted
  std::span<const float> sample;   // [num_sample_tokens, K], permuted
  std::span<const float> gram;     // [K, K], damped, rows and columns permuted
  int num_int4_channels = 0;
};

// Which stages of the weight search run, some off for ablations.
struct WeightSearch {
  bool feeds_errors_back = true;
  int num_refinement_rounds = 3;
  bool keeps_residuals = false;  // CodeResiduals(), for tuning.
  int num_threads = 1;
};

// Quantises the weights, then chooses the activation clip of least output error in the mixed mode
// and measures both modes, all by the back end's own ops. gather and bias are left to the caller.
// Errors: those of the back end.
Result<LinearResult> QuantizeLinear(Backend& backend, const LinearTask& task,
                                    const WeightSearch& search);

// A view of the weights for packing.
W4axWeights ViewOf(const QuantizedLinear& linear);

// A Hadamard of every whole block among the first `num_channels` of each row of [any, K].
void HadamardBlocks(std::span<float> rows, int num_inputs, int num_channels, int num_threads);

// Dequantised rows [N, K] with their channels in the layer's order.
std::vector<float> DequantizeInLayerOrder(const QuantizedLinear& linear, int num_threads);

// The same with their channels in the producer's order; `hadamard`: of the columns,
// which this undoes (LayerPrecision::down_hadamard).
std::vector<float> DequantizeInOrder(const QuantizedLinear& linear, bool hadamard, int num_threads);

}  // namespace comet
