#pragma once

#include <string>
#include <vector>

#include "engine/request.h"
#include "kernels/base/status.h"
#include "server/prompt/prompt_builder.h"

namespace google::protobuf {
class Message;
}

namespace comet::v1 {
class Conversation;
class GenerateRequest;
}  // namespace comet::v1

namespace comet {

// A later client's field would otherwise be dropped in silence. Errors: kInvalidArgument naming it.
Status CheckNoUnknownFields(const google::protobuf::Message& message);

// The tokens of a conversation. Errors: kInvalidArgument naming a field; those of the template.
Result<std::vector<int>> ReadConversation(const v1::Conversation& conversation,
                                          const PromptBuilder& prompts,
                                          const PromptOptions& options = {});

// A Generate message as the engine takes it. Ranges of single fields are the engine's to check.
// Errors: kInvalidArgument naming a field that is unknown, contradictory or has no meaning; those
// of the prompt. Tokenizes, so call it on a worker.
Result<Request> ReadGenerateRequest(const v1::GenerateRequest& message,
                                    const PromptBuilder& prompts);

}  // namespace comet
