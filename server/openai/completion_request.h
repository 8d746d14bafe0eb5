#pragma once

#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/openai/generate_fields.h"

namespace comet {

// A body of /v1/completions.
struct CompletionRequest : GenerateFields {
  std::vector<std::variant<std::string, std::vector<int>>> prompts;  // Texts or token ids.
};

// Errors: every field that is wrong, unknown, or of OpenAI's schema but not supported, by name.
ApiStatus ParseCompletionRequest(const nlohmann::json& body, const ApiLimits& limits,
                                 CompletionRequest& out);

}  // namespace comet
