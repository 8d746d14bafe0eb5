#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "engine/quantizer/two_level_weights.h"
#include "kernels/base/random.h"
#include "tests/engine/normal_values.h"

namespace comet {

// Quantised normal weights, their channels turned by three against the producer's.
inline QuantizedLinear MakeRandomLinear(Random& random, int num_outputs, int num_inputs) {
  const std::vector<float> weights = NormalValues(
      random, static_cast<size_t>(num_outputs * num_inputs), 1.0f / std::sqrt(float(num_inputs)));
  const std::vector<float> importance(static_cast<size_t>(num_inputs), 1.0f);
  TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, 1);
  QuantizedLinear linear;
  linear.num_outputs = num_outputs;
  linear.num_inputs = num_inputs;
  linear.codes = std::move(quantized.codes);
  linear.steps = std::move(quantized.steps);
  linear.scale = std::move(quantized.scale);
  for (int k = 0; k < num_inputs; ++k) linear.gather.push_back((k + 3) % num_inputs);
  return linear;
}

}  // namespace comet
