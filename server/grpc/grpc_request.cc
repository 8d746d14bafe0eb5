#include "server/grpc/grpc_request.h"

#include <limits>
#include <optional>

#include "comet/v1/comet.pb.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

}  // namespace

// The messages nest three deep.
Status CheckNoUnknownFields(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  const auto& unknown = reflection.GetUnknownFields(message);
  if (unknown.field_count() > 0) {
    return InvalidArgument(StrCat(message.GetDescriptor()->full_name(), ": field ",
                                  unknown.field(0).number(), " is unknown to this server"));
  }
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      COMET_RETURN_IF_ERROR(CheckNoUnknownFields(
          field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                               : reflection.GetMessage(message, field)));
    }
  }
  return Status::Ok();
}

namespace {

SamplingParams ReadSampling(const v1::SamplingParams& message) {
  SamplingParams sampling;
  if (message.has_temperature()) sampling.temperature = message.temperature();
  if (message.has_top_p()) sampling.top_p = message.top_p();
  if (message.has_top_k()) sampling.top_k = message.top_k();
  if (message.has_min_p()) sampling.min_p = message.min_p();
  if (message.has_repetition_penalty()) sampling.repetition_penalty = message.repetition_penalty();
  if (message.has_presence_penalty()) sampling.presence_penalty = message.presence_penalty();
  if (message.has_frequency_penalty()) sampling.frequency_penalty = message.frequency_penalty();
  if (message.has_seed()) sampling.seed = message.seed();
  for (const auto& [token_id, bias] : message.logit_bias()) {
    sampling.logit_bias.emplace_back(token_id, bias);
  }
  return sampling;
}

}  // namespace

Result<std::vector<int>> ReadConversation(const v1::Conversation& conversation,
                                          const PromptBuilder& prompts,
                                          const PromptOptions& options) {
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : conversation.messages()) {
    const std::string role = message.role() == "developer" ? "system" : message.role();
    if (role != "system" && role != "user" && role != "assistant") {
      return InvalidArgument(StrCat("chat.messages[", messages.size(),
                                    "].role: unknown role, expected system, developer, user or "
                                    "assistant"));
    }
    messages.push_back({role, message.content(), message.name()});
  }
  if (messages.empty()) {
    return InvalidArgument("chat.messages: length is 0, expected at least 1");
  }
  return prompts.FromMessages(messages, options);
}

namespace {

Result<std::vector<int>> ReadPrompt(const v1::GenerateRequest& message,
                                    const PromptBuilder& prompts) {
  switch (message.prompt_case()) {
    case v1::GenerateRequest::kText: return prompts.FromText(message.text());
    case v1::GenerateRequest::kTokenIds:
      return std::vector<int>(message.token_ids().ids().begin(), message.token_ids().ids().end());
    case v1::GenerateRequest::kChat: return ReadConversation(message.chat(), prompts);
    case v1::GenerateRequest::PROMPT_NOT_SET: break;
  }
  return InvalidArgument("prompt: missing, expected one of text, token_ids and chat");
}

}  // namespace

Result<Request> ReadGenerateRequest(const v1::GenerateRequest& message,
                                    const PromptBuilder& prompts) {
  COMET_RETURN_IF_ERROR(CheckNoUnknownFields(message));
  Request request;
  request.sampling = ReadSampling(message.sampling());
  request.num_choices = message.num_choices() == 0 ? 1 : message.num_choices();
  request.output_tokens_max = message.output_tokens_max();
  request.stop.assign(message.stop().begin(), message.stop().end());
  request.stop_token_ids.assign(message.stop_token_ids().begin(), message.stop_token_ids().end());
  request.ignore_eos = message.ignore_eos();
  request.with_special_tokens = message.with_special_tokens();
  // -1 is the engine's word for none; on the wire absence says that.
  if (message.has_num_top_logprobs()) {
    if (message.num_top_logprobs() < 0) {
      return InvalidArgument(StrCat("num_top_logprobs: value is ", message.num_top_logprobs(),
                                    ", expected at least 0"));
    }
    request.num_top_logprobs = message.num_top_logprobs();
  }
  request.continues_prompt = !message.has_chat();
  request.priority = message.priority();
  request.deadline_ms = message.deadline_ms();
  COMET_ASSIGN_OR_RETURN(request.prompt_ids, ReadPrompt(message, prompts));
  const int64_t room =
      prompts.context_length_max() - static_cast<int64_t>(request.prompt_ids.size());
  if (room > 0 && request.output_tokens_max > room) {
    return InvalidArgument(StrCat("output_tokens_max: value is ", request.output_tokens_max,
                                  ", expected at most ", room, ": the context is ",
                                  prompts.context_length_max(), ", the prompt ",
                                  request.prompt_ids.size(), " tokens"));
  }
  return request;
}

}  // namespace comet
