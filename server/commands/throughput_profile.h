#pragma once

#include <vector>

#include "engine/runtime/start_engine.h"
#include "kernels/base/status.h"
#include "server/commands/throughput_report.h"

namespace comet {

// Sizes of the steps to profile.
struct ProfileSizes {
  int num_input_tokens = 0;
  int num_output_tokens = 0;
  int running_sequences = 0;
  int step_tokens_max = 0;
};

// Times a decode step of full batch halfway through the outputs, and a step of prompts alone, op by
// op: slower than the run's own steps, which overlap ops, by what the marks cost. `parts` are those
// of an engine that has run, so that the pages read hold keys and values; their ops are TimedOps.
Result<std::vector<StepProfile>> ProfileSteps(const EngineParts& parts, const ModelLimits& limits,
                                              const ProfileSizes& sizes);

}  // namespace comet
