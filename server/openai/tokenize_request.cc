#include "server/openai/tokenize_request.h"

#include <array>

#include "server/openai/chat_request.h"

namespace comet {
namespace {

using Field = const FieldValue&;

constexpr int64_t kTokensMax = 1 << 24;  // The body limit bites first.

ApiStatus ReadPrompt(Field field, TokenizeRequest& out) {
  return ReadString(field, out.prompt.emplace());
}

ApiStatus ReadAddSpecialTokens(Field field, TokenizeRequest& out) {
  out.has_add_special_tokens = true;
  return ReadBool(field, out.add_special_tokens);
}

using TokenizeRule = FieldRule<TokenizeRequest>;

constexpr std::array kTokenizeRules = {
    TokenizeRule{"model", [](Field f, TokenizeRequest& out) { return ReadString(f, out.model); }},
    TokenizeRule{"prompt", ReadPrompt},
    TokenizeRule{"messages",
                 [](Field f, TokenizeRequest& out) { return ReadMessages(f, out.messages); }},
    TokenizeRule{"add_special_tokens", ReadAddSpecialTokens},
    TokenizeRule{
        "add_generation_prompt",
        [](Field f, TokenizeRequest& out) { return ReadBool(f, out.add_generation_prompt); }},
    TokenizeRule{"return_token_strs",
                 [](Field f, TokenizeRequest& out) { return ReadBool(f, out.return_token_strs); }},
    // Of vLLM's schema and not supported.
    TokenizeRule{"continue_final_message",
                 [](Field f, TokenizeRequest&) { return AcceptEmpty(f); }},
    TokenizeRule{"tools", [](Field f, TokenizeRequest&) { return AcceptEmpty(f); }},
    TokenizeRule{"chat_template", [](Field f, TokenizeRequest&) { return RefuseField(f); }},
    TokenizeRule{"chat_template_kwargs", [](Field f, TokenizeRequest&) { return AcceptEmpty(f); }},
};

using DetokenizeRule = FieldRule<DetokenizeRequest>;

ApiStatus ReadTokens(Field field, DetokenizeRequest& out) {
  out.has_tokens = true;
  return ReadTokenIds(field, kTokensMax, out.tokens);
}

constexpr std::array kDetokenizeRules = {
    DetokenizeRule{"model",
                   [](Field f, DetokenizeRequest& out) { return ReadString(f, out.model); }},
    DetokenizeRule{"tokens", ReadTokens},
};

}  // namespace

ApiStatus ParseTokenizeRequest(const nlohmann::json& body, const ApiLimits& limits,
                               TokenizeRequest& out) {
  if (ApiStatus outcome = ReadObject<TokenizeRequest>({body, "", limits}, kTokenizeRules, out);
      !outcome.ok()) {
    return outcome;
  }
  const bool has_messages = !out.messages.empty();
  if (!out.prompt.has_value() && !has_messages) {
    return FieldFault("prompt", "missing, expected a string, or messages");
  }
  if (out.prompt.has_value() && has_messages) {
    return FieldFault("prompt", "set beside messages, expected one of them");
  }
  if (!out.has_add_special_tokens) out.add_special_tokens = out.prompt.has_value();
  return {};
}

ApiStatus ParseDetokenizeRequest(const nlohmann::json& body, const ApiLimits& limits,
                                 DetokenizeRequest& out) {
  if (ApiStatus outcome = ReadObject<DetokenizeRequest>({body, "", limits}, kDetokenizeRules, out);
      !outcome.ok()) {
    return outcome;
  }
  if (!out.has_tokens) return FieldFault("tokens", "missing, expected an array");
  return {};
}

}  // namespace comet
