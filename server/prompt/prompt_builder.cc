#include "server/prompt/prompt_builder.h"

#include <algorithm>

namespace comet {
namespace {

int ContextLengthOf(const Engine& engine) {
  const int of_model = engine.model_config().context_length_max;
  const int configured = engine.config().context_length_max;
  return configured > 0 ? std::min(configured, of_model) : of_model;
}

}  // namespace

PromptBuilder::PromptBuilder(const Engine& engine)
    : engine_(engine),
      context_length_max_(ContextLengthOf(engine)),
      bos_token_(engine.tokenizer().TokenBytes(engine.tokenizer().vocabulary().bos_id, true)),
      eos_token_(engine.tokenizer().TokenBytes(engine.tokenizer().vocabulary().eos_id, true)) {}

Result<std::vector<int>> PromptBuilder::FromText(std::string_view text, bool add_special) const {
  return engine_.tokenizer().Encode(text, {.add_special = add_special, .parse_special = true});
}

Result<std::vector<int>> PromptBuilder::FromMessages(const std::vector<ChatMessage>& messages,
                                                     const PromptOptions& options) const {
  const ChatTemplate* chat_template = engine_.chat_template();
  if (chat_template == nullptr) {
    return FailedPrecondition("messages: the model has no chat template, expected a prompt");
  }
  nlohmann::ordered_json values;
  nlohmann::ordered_json& list = values["messages"] = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) {
    nlohmann::ordered_json entry = {{"role", message.role}, {"content", message.content}};
    if (!message.name.empty()) entry["name"] = message.name;
    list.push_back(std::move(entry));
  }
  values["tools"] = options.tools;
  values["add_generation_prompt"] = options.add_generation_prompt;
  values["bos_token"] = bos_token_;
  values["eos_token"] = eos_token_;
  Result<std::string> rendered = chat_template->Render(values);
  if (rendered.status().code() == StatusCode::kResourceExhausted) {
    // A limit of the sandbox: the same messages never succeed, so no later try is asked for.
    return InvalidArgument(rendered.status().message());
  }
  COMET_ASSIGN_OR_RETURN(const std::string text, std::move(rendered));
  return engine_.tokenizer().Encode(text,
                                    {.add_special = options.add_special, .parse_special = true});
}

}  // namespace comet
