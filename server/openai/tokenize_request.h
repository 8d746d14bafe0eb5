#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/openai/field_parser.h"
#include "server/prompt/prompt_builder.h"

namespace comet {

// A body of /tokenize, with vLLM's names.
struct TokenizeRequest {
  std::string model;                  // Empty: whichever is served.
  std::optional<std::string> prompt;  // Either this or messages.
  std::vector<ChatMessage> messages;
  bool has_add_special_tokens = false;  // Otherwise: true for a prompt, false for messages.
  bool add_special_tokens = false;
  bool add_generation_prompt = true;
  bool return_token_strs = false;
};

// A body of /detokenize.
struct DetokenizeRequest {
  std::string model;
  bool has_tokens = false;
  std::vector<int> tokens;
};

// Errors: every field that is wrong or unknown, by name; not exactly one of prompt and messages.
ApiStatus ParseTokenizeRequest(const nlohmann::json& body, const ApiLimits& limits,
                               TokenizeRequest& out);
// Errors: every field that is wrong or unknown, by name.
ApiStatus ParseDetokenizeRequest(const nlohmann::json& body, const ApiLimits& limits,
                                 DetokenizeRequest& out);

}  // namespace comet
