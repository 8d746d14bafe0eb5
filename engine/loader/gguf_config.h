#pragma once

#include <string>

#include "engine/loader/gguf_file.h"
#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// Everything that a GGUF file's keys say about weights.
struct GgufConfig {
  std::string architecture;  // "llama", which Mistral's models have too, or "qwen2"
  ModelConfig model;
  // Rotary channels of Q and K are stored as pairs (2i, 2i + 1), as llama's are, not as halves.
  bool has_rotary_pairs = false;
};

// The decoder's shape from a GGUF file's ARCHITECTURE.* keys, the embedding's shape and the
// presence of output.weight. Defaults where a key is absent: RoPE base 10000, KV heads = heads,
// head_dim = hidden / heads, every channel of a head rotated, epsilon 1e-5, no sliding window.
// Errors: kDataLoss naming the key; kUnimplemented for another architecture, and for keys that
// change the arithmetic in a way the model has no code for (experts, scale factors, RoPE scalings
// other than linear and yarn).
Result<GgufConfig> ReadGgufConfig(const GgufFile& file);

}  // namespace comet
