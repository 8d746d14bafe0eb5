#pragma once

#include <string>

#include "kernels/base/status.h"
#include "server/commands/eval_model.h"

namespace comet {

struct EvalPerplexityOptions {
  EvalModelOptions model;
  std::string text;    // File whose contents are evaluated.
  std::string svg;     // Optional: where to draw the checkpoint's error by layer.
  int context = 2048;  // Tokens of a window.
  int windows = 0;     // 0: all that the text fills.
  bool json = false;
};

// `comet eval perplexity`: prints the perplexity of the reference, if any, and of the model at each
// setting, side by side.
Status RunEvalPerplexity(const EvalPerplexityOptions& options);

}  // namespace comet
