#pragma once

#include <string>

#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// What of a model decides the cost of quantising it.
struct ModelShape {
  ModelConfig config;
  bool has_qkv_bias = false;
};

// From a Hugging Face config.json or a folder that has one, when no weight is needed, or from a
// GGUF file. Errors: those of ParseFolderConfig() and FloatSource::Open().
Result<ModelShape> ReadModelShape(const std::string& path);

}  // namespace comet
