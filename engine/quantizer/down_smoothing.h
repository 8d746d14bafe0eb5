#pragma once

#include <span>
#include <vector>

#include "engine/loader/float_source.h"
#include "engine/quantizer/residual_stream.h"

namespace comet {

// Factors [ffn] of down's input channels that make INT4 codes of it err least. One step of a token
// serves channels that a Hadamard mixes, so the squared error of down's outputs is as the sum of
// the channels' activities times the sum of their columns' squares. Dividing each channel by the
// fourth root of its activity over its column's square, both relative to their means, makes that
// least; factors stay within 1/20 to 20. `inputs` are down's in the float model, tokens weighed by
// one over the mean square of their row of `hidden`, the residual stream behind it.
// Source: SmoothQuant (arXiv:2211.10438) with sums of squares in place of maxima.
std::vector<float> DownFactors(const FloatLayer& layer, const WindowRows& inputs,
                               const WindowRows& hidden);

// Divides up's rows by the factors and multiplies down's columns: the layer's function stays.
void SmoothDown(std::span<const float> factors, FloatLayer& layer);

}  // namespace comet
