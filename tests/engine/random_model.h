#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "engine/loader/float_source.h"
#include "kernels/base/random.h"
#include "tests/engine/normal_values.h"

namespace comet {

// A row-major matrix of normal numbers, whose products have `gain` times the magnitude of what it
// multiplies.
inline std::vector<float> RandomMatrix(Random& random, int num_rows, int num_columns, float gain) {
  return NormalValues(random, static_cast<size_t>(num_rows) * static_cast<size_t>(num_columns),
                      gain / std::sqrt(static_cast<float>(num_columns)));
}

// A layer of such matrices, without biases; its norms leave things as they are.
inline FloatLayer RandomLayer(Random& random, const ModelConfig& config, float gain) {
  const auto width = static_cast<size_t>(config.hidden_size);
  FloatLayer layer;
  layer.input_norm.assign(width, 1.0f);
  layer.post_attention_norm.assign(width, 1.0f);
  layer.qkv = RandomMatrix(random, config.qkv_size(), config.hidden_size, gain);
  layer.o = RandomMatrix(random, config.hidden_size, config.q_size(), gain);
  layer.gate_up = RandomMatrix(random, 2 * config.ffn_size, config.hidden_size, gain);
  layer.down = RandomMatrix(random, config.hidden_size, config.ffn_size, gain);
  return layer;
}

}  // namespace comet
