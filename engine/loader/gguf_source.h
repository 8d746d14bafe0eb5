#pragma once

#include <memory>
#include <string>

#include "engine/loader/float_source.h"
#include "kernels/base/status.h"

namespace comet {

// A GGUF file of the llama or qwen2 architecture. Errors: kNotFound; kDataLoss with file, field,
// got and expected; kUnimplemented naming the architecture, key or tensor.
Result<std::unique_ptr<FloatSource>> OpenGgufSource(const std::string& path);

}  // namespace comet
