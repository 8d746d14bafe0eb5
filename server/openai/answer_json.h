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

}  // namespace comet
