#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "kernels/base/status.h"

namespace comet {

struct ChatMessage {
  std::string role;  // system, user or assistant
  std::string content;
  std::string name;  // Empty: none.
};

// Turns prompts into token ids. Long texts take long: call it on a worker thread. Thread-safe.
class PromptBuilder {
 public:
  // `engine` outlives it.
  explicit PromptBuilder(const Engine& engine);

  // BOS where the vocabulary asks for it; control tokens written out in the text are read as such.
  Result<std::vector<int>> FromText(std::string_view text) const;
  // Rendered by the checkpoint's template, up to where the assistant speaks. Errors:
  // kFailedPrecondition without a template; kInvalidArgument with the template's own complaint.
  Result<std::vector<int>> FromMessages(const std::vector<ChatMessage>& messages) const;

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
