#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/loader/float_source.h"

namespace comet {

// What a synthetic LLaMA has that calibration must find.
struct PlantedOptions {
  uint64_t seed = 1;
  int num_layers = 1;
  // Input channels of every linear layer whose activations are larger than the others'; the weights
  // are smaller by as much, so that the model computes what it would without them.
  std::vector<int> outliers;
  float outlier_factor = 1.0f;
  // Norm of each KV head's K bias, all of it on `bias_pairs` rotary pairs, the slowest ones, or
  // spread over every channel when 0. No head has a bias when the norm is 0.
  float k_bias_norm = 0.0f;
  int bias_pairs = 0;
};

// A LLaMA of random weights with SmolLM2's widths (576 channels, here at the input of every linear
// layer, 9 heads of 64, 3 KV heads) and a vocabulary of two-letter tokens.
std::unique_ptr<FloatSource> MakePlantedSource(const PlantedOptions& options);

inline constexpr int kPlantedChannels = 576;

// Text of that vocabulary, and random tokens of it, the same at every call.
std::string PlantedText(int num_tokens, uint64_t seed);
std::vector<int> RandomPairIds(int num_tokens);

}  // namespace comet
