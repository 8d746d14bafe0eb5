#pragma once

#include <string>

#include "engine/config/engine_config.h"
#include "engine/runtime/start_engine.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct LoadOptions {
  std::string model;                     // Checkpoint folder, or an unquantised file.
  std::string activation_bits = "auto";  // auto | mixed | 8 | float
  std::string kv_bits = "auto";          // auto, or as ParseKvFormat()
  std::string chat_template_file;        // Optional: instead of the model's own.
  std::string chat_template_name;        // Optional: which of the model's own.
  BackendOptions backend;
  EngineConfig engine;
};

// Everything StartEngine() takes.
struct LoadedParts {
  EngineParts parts;
  ModelLimits limits;
  EngineConfig config;  // With context_length_max resolved.
};

// Opens the model, plans its memory on the device, and loads it. Memory is planned before anything
// large is allocated: weights and activations as they are, the rest for KV pages as KvCacheConfig
// says. Errors: those of ModelSource and MakeBackend; kResourceExhausted saying what is needed and
// what the device has, when not even one sequence of the full context fits.
Result<LoadedParts> LoadParts(const LoadOptions& options);

}  // namespace comet
