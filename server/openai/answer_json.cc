#include "server/openai/answer_json.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"
#include "server/api/finish_reason.h"
#include "server/http/sse.h"

namespace comet {

std::string DumpAnswer(const AnswerJson& json) {
  return json.dump(-1, ' ', false, AnswerJson::error_handler_t::replace);
}

AnswerJson UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

AnswerJson FinishReasonJson(const std::optional<FinishReason>& reason) {
  if (!reason) return nullptr;
  // The other reasons are failures, told as errors.
  COMET_CHECK(*reason == FinishReason::kStop || *reason == FinishReason::kLength);
  return ToString(*reason);
}

AnswerJson HeadJson(const AnswerHead& head, std::string_view id_prefix, std::string_view object) {
  return {{"id", StrCat(id_prefix, head.request_id)},
          {"object", object},
          {"created", head.created},
          {"model", head.model}};
}

ChunkTemplate::ChunkTemplate(const AnswerJson& chunk, std::string_view field) {
  const std::string event = FormatSse(DumpAnswer(chunk));
  // No string's content looks so, as its quotes are escaped.
  const std::string member = StrCat("\"", field, "\":\"\"");
  const size_t at = event.find(member);
  COMET_CHECK(at != std::string::npos);
  const size_t text_at = at + member.size() - 1;
  before_ = event.substr(0, text_at);
  after_ = event.substr(text_at);
}

std::string ChunkTemplate::Event(std::string_view text) const {
  const bool is_plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
  });
  std::string event;
  event.reserve(before_.size() + text.size() + after_.size());
  event += before_;
  if (is_plain) {
    event += text;
  } else {
    const std::string quoted = DumpAnswer(text);
    event.append(quoted, 1, quoted.size() - 2);
  }
  return event += after_;
}

}  // namespace comet
