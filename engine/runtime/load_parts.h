#pragma once

#include <functional>
#include <optional>
#include <string>

#include "engine/config/engine_config.h"
#include "engine/model/synthetic_model.h"
#include "engine/runtime/memory_plan.h"
#include "engine/runtime/start_engine.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct LoadOptions {
  std::string model;                        // Checkpoint, Hugging Face folder or GGUF file.
  std::optional<SyntheticModel> synthetic;  // Instead of `model`.
  std::string activation_bits = "auto";     // auto | mixed | 8 | float
  std::string kv_bits = "auto";             // auto, or as ParseKvFormat()
  std::string chat_template_file;           // Optional: instead of the model's own.
  std::string chat_template_name;           // Optional: which of the model's own.
  BackendOptions backend;
  EngineConfig engine;
  // Optional: whether to go on with these activations (mixed, 8 or float), which "auto" has become
  // on the device; asked before anything large is loaded.
  std::function<Status(const std::string& activation_bits)> check_activations;
  bool has_timed_ops = false;  // The back end's ops are wrapped in TimedOps, for a profile.
};

// Everything StartEngine() takes.
struct LoadedParts {
  EngineParts parts;
  ModelLimits limits;
  EngineConfig config;  // With context_length_max and the scheduler's limits resolved.
  MemoryPlan memory;
};

// Opens the model, plans its memory on the device (memory_plan.h), and loads it: what does not fit
// is refused before anything large is allocated. Errors: those of ModelSource, MakeBackend,
// PlanMemory() and check_activations.
Result<LoadedParts> LoadParts(const LoadOptions& options);

}  // namespace comet
