#pragma once

#include "engine/loader/checkpoint_writer.h"
#include "engine/model/model_config.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/random_linear.h"
#include "tests/engine/normal_values.h"

namespace comet {

constexpr int kSmallWindowTokens = 5;

inline ModelConfig SmallLayerConfig() {
  ModelConfig config;
  config.hidden_size = 16;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.rotary_dim = 8;
  config.ffn_size = 144;  // A block of INT4 channels and some more.
  config.vocab_size = 11;
  return config;
}

// A quantised layer so small that every slope can be taken by differences.
inline QuantizedLayer MakeSmallLayer(Random& random) {
  const ModelConfig config = SmallLayerConfig();
  QuantizedLayer layer;
  layer.qkv = MakeRandomLinear(random, config.qkv_size(), config.hidden_size);
  layer.qkv.bias = NormalValues(random, static_cast<size_t>(config.qkv_size()), 0.3f);
  layer.o = MakeRandomLinear(random, config.hidden_size, config.q_size());
  layer.gate_up = MakeRandomLinear(random, 2 * config.ffn_size, config.hidden_size);
  layer.down = MakeRandomLinear(random, config.hidden_size, config.ffn_size);
  layer.down.gather.clear();
  layer.down.precision.num_int4_channels = 128;
  layer.down_hadamard = true;
  layer.kv = {.k_bits = 32, .v_bits = 32};  // Rounding has no slope to compare with.
  layer.input_norm = NormalValues(random, 16, 1.0f);
  layer.post_attention_norm = NormalValues(random, 16, 1.0f);
  return layer;
}

}  // namespace comet
