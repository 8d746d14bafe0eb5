#pragma once

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/openai/generate_fields.h"
#include "server/prompt/prompt_builder.h"

namespace comet {

// A body of /v1/chat/completions.
struct ChatRequest : GenerateFields {
  std::vector<ChatMessage> messages;
  bool has_logprobs = false;
  int num_top_logprobs = -1;  // -1: not given.
};

// An array of messages. Errors: as below.
ApiStatus ReadMessages(const FieldValue& field, std::vector<ChatMessage>& out);

// Errors: every field that is wrong, unknown, or of OpenAI's schema but not supported, by name.
ApiStatus ParseChatRequest(const nlohmann::json& body, const ApiLimits& limits, ChatRequest& out);

}  // namespace comet
