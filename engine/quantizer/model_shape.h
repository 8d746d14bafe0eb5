#pragma once

#include <string>
#include <string_view>

#include "engine/model/model_config.h"
#include "kernels/base/status.h"

namespace comet {

// What of a model decides the cost of quantising it.
struct ModelShape {
  ModelConfig config;
  bool has_qkv_bias = false;
};

// From the text of a Hugging Face config.json; what it leaves out has that library's defaults. No
// weight is needed. `where` begins the messages. Errors: kDataLoss; kUnimplemented for a model_type
// other than llama, mistral and qwen2.
Result<ModelShape> ParseModelShape(const std::string& where, std::string_view text);

// From a config.json, a folder that has one, or a GGUF file. Errors: also kNotFound.
Result<ModelShape> ReadModelShape(const std::string& path);

}  // namespace comet
