#pragma once

#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "server/commands/eval_model.h"

namespace comet {

struct EvalChoiceOptions {
  EvalModelOptions model;
  std::vector<std::string> files;       // JSON lines; see engine/evaluation/choice_items.h.
  int limit = 0;                        // Items of each file; 0: all.
  std::string normalisation = "bytes";  // bytes | tokens | none
  bool json = false;
};

// `comet eval choice`: prints the share of multiple-choice items answered right, by file and over
// all items; with a reference also the paired difference and its standard error.
Status RunEvalChoice(const EvalChoiceOptions& options);

}  // namespace comet
