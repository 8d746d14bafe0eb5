#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "kernels/base/status.h"

namespace comet {

struct ChatMessage {
  std::string role;  // system, user or assistant
  std::string content;
  std::string name;  // Empty: none.
};

// How a conversation becomes a prompt.
struct PromptOptions {
  bool add_generation_prompt = true;  // Up to where the assistant speaks.
  bool add_special = false;  // BOS and EOS where the vocabulary asks; templates write their own.
  // What the template sees as `tools`: an array of OpenAI's tool objects, in the client's order of
  // keys, or null. No front end gives any yet.
  nlohmann::ordered_json tools;
};

// Turns prompts into token ids. Long texts take long: call it on a worker thread. Thread-safe.
class PromptBuilder {
 public:
  // `engine` outlives it.
  explicit PromptBuilder(const Engine& engine);

  // With `add_special`, BOS and EOS where the vocabulary asks for them; control tokens written out
  // in the text are read as such.
  Result<std::vector<int>> FromText(std::string_view text, bool add_special = true) const;
  // Rendered by the checkpoint's template. Errors: kFailedPrecondition without a template;
  // kInvalidArgument with the template's own complaint.
  Result<std::vector<int>> FromMessages(const std::vector<ChatMessage>& messages,
                                        const PromptOptions& options = {}) const;

  bool has_chat_template() const { return engine_.chat_template() != nullptr; }
  // Tokens of one sequence, prompt and output together.
  int context_length_max() const { return context_length_max_; }

 private:
  const Engine& engine_;
  int context_length_max_;
  std::string bos_token_;
  std::string eos_token_;
};

}  // namespace comet
