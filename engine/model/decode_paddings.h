#pragma once

#include <vector>

#include "engine/model/step_input.h"

namespace comet {

struct ModelLimits;

// The sizes to which decode steps are padded: ascending by sequences, then by context, the last of
// each the limits' own. Nothing in `limits` is exceeded.
std::vector<StepPadding> DecodePaddings(const ModelLimits& limits, int page_id);

// The smallest of `paddings` that `step` fits; -1: none, or the step is not one token of each
// sequence with its logits.
int FindPadding(const std::vector<StepPadding>& paddings, const StepInput& step);

}  // namespace comet
