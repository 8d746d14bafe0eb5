#include "server/openai/completion_request.h"

#include <array>
#include <limits>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using Field = const FieldValue&;

constexpr int kLogprobsMax = 5;           // OpenAI's schema: logprobs.
constexpr int kOutputTokensDefault = 16;  // OpenAI's schema: max_tokens.
constexpr int64_t kPromptIdsMax = 1
                                  << 24;  // The body limit bites first; the context decides later.

ApiStatus ReadIdsPrompt(Field field, CompletionRequest& out) {
  std::vector<int> ids;
  if (ApiStatus outcome = ReadTokenIds(field, kPromptIdsMax, ids); !outcome.ok()) return outcome;
  if (ids.empty()) return FieldFault(field.param, "length is 0, expected at least 1");
  out.prompts.emplace_back(std::move(ids));
  return {};
}

ApiStatus ReadPromptItem(Field field, CompletionRequest& out) {
  if (field.json.is_array()) return ReadIdsPrompt(field, out);
  std::string text;
  if (ApiStatus outcome = ReadString(field, text); !outcome.ok()) return outcome;
  out.prompts.emplace_back(std::move(text));
  return {};
}

// A text, token ids, or an array of either.
ApiStatus ReadPrompt(Field field, CompletionRequest& out) {
  if (field.json.is_string()) return ReadPromptItem(field, out);
  if (!field.json.is_array()) {
    return FieldFault(field.param,
                      StrCat("value is ", KindOf(field.json), ", expected a string or an array"));
  }
  if (!field.json.empty() && field.json[0].is_number()) return ReadIdsPrompt(field, out);
  const size_t count_max = static_cast<size_t>(field.limits.prompts_max);
  if (field.json.empty() || field.json.size() > count_max) {
    return FieldFault(field.param,
                      StrCat("length is ", field.json.size(), ", expected 1 to ", count_max));
  }
  for (size_t i = 0; i < field.json.size(); ++i) {
    const FieldValue item{field.json[i], StrCat(field.param, "[", i, "]"), field.limits};
    if (ApiStatus outcome = ReadPromptItem(item, out); !outcome.ok()) return outcome;
  }
  return {};
}

ApiStatus ReadBestOf(Field field, CompletionRequest&) {
  const bool is_one = field.json.is_number_integer() && field.json == 1;
  return is_one ? ApiStatus() : RefuseField(field);
}

using Rule = FieldRule<CompletionRequest>;

constexpr std::array kCompletionRules = {
    Rule{"prompt", ReadPrompt},
    Rule{"logprobs",
         [](Field field, CompletionRequest& out) {
           return ReadInt(field, 0, kLogprobsMax, out.request.num_top_logprobs);
         }},
    Rule{"best_of", ReadBestOf},
    Rule{"echo", [](Field field, CompletionRequest&) { return AcceptEmpty(field); }},
    Rule{"suffix", [](Field field, CompletionRequest&) { return AcceptEmpty(field); }},
};

}  // namespace

ApiStatus ParseCompletionRequest(const nlohmann::json& body, const ApiLimits& limits,
                                 CompletionRequest& out) {
  out.request.output_tokens_max = kOutputTokensDefault;
  out.request.continues_prompt = true;
  if (ApiStatus outcome = ReadRequest<CompletionRequest>(body, limits, kCompletionRules, out);
      !outcome.ok()) {
    return outcome;
  }
  if (out.prompts.empty()) return FieldFault("prompt", "missing, expected a string or an array");
  return {};
}

}  // namespace comet
