#pragma once

#include <string>

#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct EvalPerplexityOptions {
  std::string model;      // Checkpoint folder or unquantised file.
  std::string text;       // File whose contents are evaluated.
  std::string reference;  // Optional: an unquantised source run in float for comparison.
  int context = 2048;     // Tokens of a window.
  int windows = 0;        // 0: all that the text fills.
  std::string activation_bits = "auto";
  std::string kv_bits = "auto";
  BackendOptions backend;
  bool json = false;
};

// `comet eval perplexity`: prints perplexity of the model and, beside it, of the reference.
Status RunEvalPerplexity(const EvalPerplexityOptions& options);

}  // namespace comet
