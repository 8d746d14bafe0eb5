#include "engine/runtime/request_check.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string_view>

#include "engine/sampling/sampling_check.h"
#include "kernels/base/str_cat.h"
#include "kernels/ops/sample.h"

namespace comet {
namespace {

Status CheckRange(std::string_view name, int64_t value, int64_t minimum, int64_t maximum) {
  if (value >= minimum && value <= maximum) return Status::Ok();
  return InvalidArgument(
      StrCat("request: ", name, " is ", value, ", expected ", minimum, " to ", maximum));
}

Status CheckPrompt(const Request& request, const RequestLimits& limits) {
  if (request.prompt_ids.empty()) {
    return InvalidArgument("request: the prompt is empty, expected at least one token");
  }
  if (request.prompt_ids.size() >= static_cast<size_t>(limits.context_length_max)) {
    return InvalidArgument(StrCat("request: the prompt is ", request.prompt_ids.size(),
                                  " tokens long, expected fewer than ", limits.context_length_max,
                                  ", the context of prompt and output"));
  }
  for (const int token_id : request.prompt_ids) {
    COMET_RETURN_IF_ERROR(CheckRange("a token of the prompt", token_id, 0, limits.vocab_size - 1));
  }
  return Status::Ok();
}

Status CheckStops(const Request& request, const RequestLimits& limits) {
  if (request.stop.size() > static_cast<size_t>(kStopTextsMax)) {
    return InvalidArgument(StrCat("request: stop has ", request.stop.size(),
                                  " texts, expected at most ", kStopTextsMax));
  }
  for (const std::string& text : request.stop) {
    COMET_RETURN_IF_ERROR(CheckRange("the number of bytes of a stop text",
                                     static_cast<int64_t>(text.size()), 1, kStopTextBytesMax));
  }
  if (request.stop_token_ids.size() > static_cast<size_t>(kStopTokensMax)) {
    return InvalidArgument(StrCat("request: stop_token_ids has ", request.stop_token_ids.size(),
                                  " tokens, expected at most ", kStopTokensMax));
  }
  for (const int token_id : request.stop_token_ids) {
    COMET_RETURN_IF_ERROR(
        CheckRange("a token of stop_token_ids", token_id, 0, limits.vocab_size - 1));
  }
  return Status::Ok();
}

}  // namespace

Status Validate(const Request& request, const RequestLimits& limits) {
  constexpr int kIntMax = std::numeric_limits<int>::max();
  COMET_RETURN_IF_ERROR(CheckPrompt(request, limits));
  COMET_RETURN_IF_ERROR(CheckRange("num_choices", request.num_choices, 1, limits.choices_max));
  COMET_RETURN_IF_ERROR(CheckRange("output_tokens_max", request.output_tokens_max, 0, kIntMax));
  COMET_RETURN_IF_ERROR(CheckRange("num_top_logprobs", request.num_top_logprobs, -1,
                                   std::min(kTopLogprobsMax, limits.vocab_size)));
  COMET_RETURN_IF_ERROR(CheckRange("priority", request.priority, -kPriorityMax, kPriorityMax));
  COMET_RETURN_IF_ERROR(CheckRange("deadline_ms", request.deadline_ms, 0, kIntMax));
  COMET_RETURN_IF_ERROR(CheckStops(request, limits));
  return Validate(request.sampling, limits.vocab_size);
}

}  // namespace comet
