#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"
#include "server/openai/answer_format.h"

namespace comet {

// Pieces that chat and completions answers share.
using AnswerJson = nlohmann::ordered_json;

// Invalid UTF-8 (part of a character) is written as U+FFFD; `bytes` in logprobs has the truth.
std::string DumpAnswer(const AnswerJson& json);
AnswerJson UsageJson(const Usage& usage);
// OpenAI's finish_reason; null when absent.
AnswerJson FinishReasonJson(const std::optional<FinishReason>& reason);
// {"id", "object", "created", "model"}
AnswerJson HeadJson(const AnswerHead& head, std::string_view id_prefix, std::string_view object);

// The server-sent events of a stream that differ in one text: the rest is written once, as making
// and printing a JSON tree for every token would be most of what the front end does.
class ChunkTemplate {
 public:
  // `chunk` has the string member `field`, empty, once.
  ChunkTemplate(const AnswerJson& chunk, std::string_view field);

  // What FormatSse(DumpAnswer(chunk)) gives with `text` as the member.
  std::string Event(std::string_view text) const;

 private:
  std::string before_;
  std::string after_;
};

}  // namespace comet
