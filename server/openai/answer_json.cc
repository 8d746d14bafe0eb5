#include "server/openai/answer_json.h"

#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"
#include "server/api/finish_reason.h"

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

}  // namespace comet
