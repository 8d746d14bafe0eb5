#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/request.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct GenerateOptions {
  std::string model;
  std::string prompt;
  bool chat = false;  // Put the prompt through the model's chat template as a user's message.
  int output_tokens_max = 64;
  SamplingParams sampling{.temperature = 0.0f};
  std::string activation_bits = "auto";
  std::string kv_bits = "auto";
  int context_length_max = 0;
  BackendOptions backend;
  bool json =
      false;  // One JSON object with text, token ids and timing instead of the streamed text.
};

// `comet generate`: continues one prompt, streamed to the terminal.
Status RunGenerate(const GenerateOptions& options);

}  // namespace comet
