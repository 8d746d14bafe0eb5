#pragma once

#include <string>
#include <vector>

#include "engine/request.h"
#include "kernels/base/status.h"
#include "server/prompt/prompt_builder.h"

namespace comet::v1 {
class GenerateRequest;
}

namespace comet {

// A Generate message as the engine takes it. Ranges of single fields are the engine's to check.
// Errors: kInvalidArgument naming a field that is unknown, contradictory or has no meaning; those
// of the prompt. Tokenizes, so call it on a worker.
Result<Request> ReadGenerateRequest(const v1::GenerateRequest& message,
                                    const PromptBuilder& prompts);

}  // namespace comet
