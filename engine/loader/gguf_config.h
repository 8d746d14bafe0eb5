#pragma once

#include "engine/loader/gguf_file.h"
#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// The decoder's shape from a GGUF file's llama.* keys, the embedding's shape and the presence of
// output.weight. Defaults where a key is absent: RoPE base 10000, KV heads = heads, head_dim =
// hidden / heads, every channel of a head rotated, epsilon 1e-5. Errors: kDataLoss naming the key;
// kUnimplemented for another architecture, and for keys that change the arithmetic in a way the
// model has no code for (experts, sliding windows, scale factors, other RoPE scalings).
Result<ModelConfig> ReadGgufConfig(const GgufFile& file);

}  // namespace comet
