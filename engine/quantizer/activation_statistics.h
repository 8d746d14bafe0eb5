#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/quantizer/host_rows.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// What calibration has seen at the input of one linear layer, K channels in the producer's order.
// x is a token's input in the model whose earlier layers are quantised, x' that in the float model;
// they are the same where calibration does not follow the quantised model.
struct ActivationStatistics {
  int num_channels = 0;
  int64_t num_tokens = 0;
  std::vector<float> abs_max;  // [K]
  std::vector<float> gram;     // [K, K]: sum of w x x^T over tokens, w as below
  std::vector<float> drift;    // [K, K]: sum of w (x' - x) x^T; empty: 0
  std::vector<float> gap;      // [hidden, K]: sum of w (h' - h) x^T, h the residual stream that the
                               // layer adds to; empty: 0
  std::vector<float> sample;   // [num_sample_tokens, K]: evenly spaced tokens' x
  int num_sample_tokens = 0;

  // The gram matrix scaled to a mean diagonal of 1, with `damping` added to its diagonal: what
  // rounding is measured by. Channels that the calibration text leaves silent still count, and the
  // chance correlations of few tokens weigh less.
  std::vector<float> DampedGram(float damping) const;
  // What DampedGram() multiplies the gram matrix by.
  float GramFactor() const;
  std::vector<float> Activity() const;  // [K]: the gram matrix's diagonal
};

// Rows of the tokens of some windows at a linear layer.
struct CalibrationRows {
  int num_channels = 0;                    // K
  int sample_stride = 1;                   // See below.
  std::span<const HostRows> inputs;        // [window][num_tokens, K]: x
  std::span<const HostRows> float_inputs;  // x'; empty: x
  std::span<const HostRows> weighting;     // [window][num_tokens, any]: see below
  std::span<const HostRows> gap;           // [window][num_tokens, hidden]: h' - h; empty: 0
};

// Adds them. A token is sampled where its index is a multiple of `sample_stride`. A token's
// weight w is one over the mean square of its row of `weighting`, which is to be what the norm that
// reads the layer's result divides by: the residual stream after o and down; the input itself,
// which a norm has made, for qkv and gate_up. So errors count as the layers behind see them, and
// the few tokens of huge activations do not outvote all others. Errors: those of the back end.
Status AddRows(Backend& backend, const CalibrationRows& rows, int num_threads,
               ActivationStatistics& statistics);

}  // namespace comet
