#include "engine/sampling/sampling_check.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

Status OutOfRange(std::string_view name, float value, std::string_view expected) {
  return InvalidArgument(StrCat("sampling: ", name, " is ", value, ", expected ", expected));
}

Status CheckLogitBias(const std::vector<std::pair<int, float>>& logit_bias, int vocab_size) {
  if (logit_bias.size() > static_cast<size_t>(kLogitBiasesMax)) {
    return InvalidArgument(StrCat("sampling: logit_bias has ", logit_bias.size(),
                                  " entries, expected at most ", kLogitBiasesMax));
  }
  std::vector<int> token_ids;
  for (const auto& [token_id, bias] : logit_bias) {
    if (token_id < 0 || token_id >= vocab_size) {
      return InvalidArgument(StrCat("sampling: a token of logit_bias is ", token_id,
                                    ", expected 0 to ", vocab_size - 1));
    }
    if (!(bias >= -100.0f && bias <= 100.0f)) {
      return OutOfRange(StrCat("logit_bias of token ", token_id), bias, "-100 to 100");
    }
    token_ids.push_back(token_id);
  }
  std::sort(token_ids.begin(), token_ids.end());
  const auto twice = std::adjacent_find(token_ids.begin(), token_ids.end());
  if (twice == token_ids.end()) return Status::Ok();
  return InvalidArgument(
      StrCat("sampling: logit_bias names token ", *twice, " more than once, expected once"));
}

}  // namespace

// The comparisons are written so that a NaN fails them.
Status Validate(const SamplingParams& sampling, int vocab_size) {
  const SamplingParams& p = sampling;
  if (!(p.temperature >= 0.0f && p.temperature <= 2.0f)) {
    return OutOfRange("temperature", p.temperature, "0 to 2");
  }
  if (!(p.top_p > 0.0f && p.top_p <= 1.0f)) {
    return OutOfRange("top_p", p.top_p, "above 0, to 1");
  }
  if (p.top_k < 0) {
    return InvalidArgument(StrCat("sampling: top_k is ", p.top_k, ", expected at least 0"));
  }
  if (!(p.min_p >= 0.0f && p.min_p <= 1.0f)) return OutOfRange("min_p", p.min_p, "0 to 1");
  if (!(p.repetition_penalty >= static_cast<float>(kRepetitionPenaltyMin) &&
        p.repetition_penalty <= static_cast<float>(kRepetitionPenaltyMax))) {
    return OutOfRange("repetition_penalty", p.repetition_penalty,
                      StrCat(kRepetitionPenaltyMin, " to ", kRepetitionPenaltyMax));
  }
  if (!(p.presence_penalty >= -2.0f && p.presence_penalty <= 2.0f)) {
    return OutOfRange("presence_penalty", p.presence_penalty, "-2 to 2");
  }
  if (!(p.frequency_penalty >= -2.0f && p.frequency_penalty <= 2.0f)) {
    return OutOfRange("frequency_penalty", p.frequency_penalty, "-2 to 2");
  }
  return CheckLogitBias(p.logit_bias, vocab_size);
}

}  // namespace comet
