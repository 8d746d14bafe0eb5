#pragma once

#include <memory>
#include <string>

#include "engine/loader/float_source.h"
#include "kernels/base/status.h"

namespace comet {

// A Hugging Face folder of llama, mistral or qwen2: config.json, safetensors (plain, or 4-bit as
// AWQ, GPTQ or compressed-tensors pack them) and text files. Every tensor's name, dtype and shape
// is checked; values are read when asked for. Errors: see FolderWeights, ParseFolderConfig(),
// PackedMatrix and ReadTextFiles(); kUnimplemented for a tensor that has no place in the model.
Result<std::unique_ptr<FloatSource>> OpenFolderSource(const std::string& folder);

}  // namespace comet
