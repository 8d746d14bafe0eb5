#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/decoder_layer.h"
#include "engine/model/model_config.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/ops/kv_cache_view.h"
#include "kernels/ops/random_linear.h"

namespace comet {

// A decoder of random weights, to measure speed and compare back ends with: every back end makes
// the same one (see RandomLinear). Gains are such that the residual stream grows slowly and logits
// stay finite at any depth.
struct SyntheticModel {
  ModelConfig config;
  bool has_qkv_bias = false;
  double int4_share = 0.75;  // Of each layer's channels, rounded down to whole blocks.
  KvFormat kv;
  uint64_t seed = 1;

  RandomLinear Linear(int layer_idx, LinearKind kind) const;
  RandomLinear LmHead() const;
  RandomLinear Embedding() const;  // Untied models only.
  // The channel order of a layer's input; empty for kDown.
  std::vector<int32_t> GatherOrder(int layer_idx, LinearKind kind) const;
  std::vector<float> QkvBias(int layer_idx) const;  // Empty without.
  // Distinct words, one a token.
  Vocabulary MakeVocabulary() const;
};

}  // namespace comet
