#include "server/openai/chat_request.h"

#include <array>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using Field = const FieldValue&;

constexpr int kTopLogprobsMax = 20;  // OpenAI's schema: top_logprobs.
constexpr std::array<std::string_view, 2> kServiceTiers = {"auto", "default"};
constexpr std::array<std::string_view, 1> kNoTools = {"none"};

struct TextPart {
  std::string type;
  std::string text;
};

ApiStatus ReadTextPart(Field field, std::string& out) {
  using Rule = FieldRule<TextPart>;
  static constexpr std::array kRules = {
      Rule{"type", [](Field member, TextPart& part) { return ReadString(member, part.type); }},
      Rule{"text", [](Field member, TextPart& part) { return ReadString(member, part.text); }},
  };
  // The type decides which fields there are, so it is looked at first.
  if (field.json.is_object() && field.json.contains("type")) {
    const nlohmann::json& type = field.json["type"];
    if (type.is_string() && type != "text") {
      return RefuseField({type, field.param + ".type", field.limits});
    }
  }
  TextPart part;
  if (ApiStatus outcome = ReadObject<TextPart>(field, kRules, part); !outcome.ok()) return outcome;
  if (part.type.empty()) return FieldFault(field.param + ".type", "missing, expected \"text\"");
  if (!field.json.contains("text")) return FieldFault(field.param + ".text", "missing");
  out = std::move(part.text);
  return {};
}

// A text, or text parts, which are joined by line ends.
ApiStatus ReadContent(Field field, ChatMessage& out) {
  if (field.json.is_string()) return ReadString(field, out.content);
  if (!field.json.is_array() || field.json.empty()) {
    return FieldFault(field.param, StrCat("value is ", KindOf(field.json),
                                          field.json.is_array() ? " of length 0" : "",
                                          ", expected a string or an array of text parts"));
  }
  out.content.clear();
  for (size_t i = 0; i < field.json.size(); ++i) {
    std::string text;
    const FieldValue part{field.json[i], StrCat(field.param, "[", i, "]"), field.limits};
    if (ApiStatus outcome = ReadTextPart(part, text); !outcome.ok()) return outcome;
    if (i > 0) out.content += '\n';
    out.content += text;
  }
  return {};
}

ApiStatus ReadRole(Field field, ChatMessage& out) {
  if (ApiStatus outcome = ReadString(field, out.role); !outcome.ok()) return outcome;
  // OpenAI's later name for the same thing; templates know only the first.
  if (out.role == "developer") out.role = "system";
  if (out.role == "system" || out.role == "user" || out.role == "assistant") return {};
  if (out.role == "tool" || out.role == "function") return RefuseField(field);
  return FieldFault(field.param, "unknown role, expected system, developer, user or assistant");
}

ApiStatus ReadMessage(Field field, ChatMessage& out) {
  using Rule = FieldRule<ChatMessage>;
  static constexpr std::array kRules = {
      Rule{"role", ReadRole},
      Rule{"content", ReadContent},
      Rule{"name",
           [](Field member, ChatMessage& message) { return ReadString(member, message.name); }},
      Rule{"tool_calls", [](Field member, ChatMessage&) { return AcceptEmpty(member); }},
      Rule{"annotations", [](Field member, ChatMessage&) { return AcceptEmpty(member); }},
      Rule{"refusal", [](Field member, ChatMessage&) { return RefuseField(member); }},
      Rule{"audio", [](Field member, ChatMessage&) { return RefuseField(member); }},
      Rule{"function_call", [](Field member, ChatMessage&) { return RefuseField(member); }},
      Rule{"tool_call_id", [](Field member, ChatMessage&) { return RefuseField(member); }},
  };
  if (ApiStatus outcome = ReadObject<ChatMessage>(field, kRules, out); !outcome.ok())
    return outcome;
  if (out.role.empty()) return FieldFault(field.param + ".role", "missing");
  if (!field.json.contains("content") || field.json["content"].is_null()) {
    return FieldFault(field.param + ".content", "missing");
  }
  return {};
}

}  // namespace

ApiStatus ReadMessages(const FieldValue& field, std::vector<ChatMessage>& out) {
  if (!field.json.is_array()) {
    return FieldFault(field.param, StrCat("value is ", KindOf(field.json), ", expected an array"));
  }
  const size_t count_max = static_cast<size_t>(field.limits.messages_max);
  if (field.json.empty() || field.json.size() > count_max) {
    return FieldFault(field.param,
                      StrCat("length is ", field.json.size(), ", expected 1 to ", count_max));
  }
  for (size_t i = 0; i < field.json.size(); ++i) {
    ChatMessage message;
    const FieldValue item{field.json[i], StrCat(field.param, "[", i, "]"), field.limits};
    if (ApiStatus outcome = ReadMessage(item, message); !outcome.ok()) return outcome;
    out.push_back(std::move(message));
  }
  return {};
}

namespace {

// {"type": "text"} is what happens anyway.
ApiStatus ReadResponseFormat(Field field, ChatRequest&) {
  const bool is_text = field.json.is_object() && field.json.size() == 1 &&
                       field.json.contains("type") && field.json["type"] == "text";
  return is_text ? ApiStatus() : RefuseField(field);
}

ApiStatus ReadModalities(Field field, ChatRequest&) {
  const bool is_text = field.json.is_array() && field.json.size() == 1 && field.json[0] == "text";
  return is_text ? ApiStatus() : RefuseField(field);
}

ApiStatus Refuse(Field field, ChatRequest&) { return RefuseField(field); }
ApiStatus AcceptNothing(Field field, ChatRequest&) { return AcceptEmpty(field); }
ApiStatus AcceptAnyText(Field field, ChatRequest&) { return AcceptText(field); }

using Rule = FieldRule<ChatRequest>;

constexpr std::array kChatRules = {
    Rule{"messages",
         [](Field field, ChatRequest& out) { return ReadMessages(field, out.messages); }},
    Rule{"max_completion_tokens",
         [](Field field, ChatRequest& out) { return ReadOutputTokensMax(field, out); }},
    Rule{"logprobs",
         [](Field field, ChatRequest& out) { return ReadBool(field, out.has_logprobs); }},
    Rule{"top_logprobs",
         [](Field field, ChatRequest& out) {
           return ReadInt(field, 0, kTopLogprobsMax, out.num_top_logprobs);
         }},
    Rule{"response_format", ReadResponseFormat},
    Rule{"modalities", ReadModalities},
    Rule{"service_tier",
         [](Field field, ChatRequest&) { return AcceptOneOf(field, kServiceTiers); }},
    Rule{"tool_choice", [](Field field, ChatRequest&) { return AcceptOneOf(field, kNoTools); }},
    Rule{"function_call", [](Field field, ChatRequest&) { return AcceptOneOf(field, kNoTools); }},
    Rule{"metadata", [](Field field, ChatRequest&) { return AcceptMetadata(field); }},
    // Labels for OpenAI's own bookkeeping: nothing here reads them.
    Rule{"safety_identifier", AcceptAnyText},
    Rule{"prompt_cache_key", AcceptAnyText},
    Rule{"store", AcceptNothing},
    Rule{"tools", AcceptNothing},
    Rule{"functions", AcceptNothing},
    Rule{"parallel_tool_calls",
         [](Field field, ChatRequest&) {
           bool ignored = false;
           return ReadBool(field, ignored);  // Says how tools are called, of which there are none.
         }},
    Rule{"audio", Refuse},
    Rule{"moderation", Refuse},
    Rule{"prediction", Refuse},
    Rule{"prompt_cache_options", Refuse},
    Rule{"prompt_cache_retention", Refuse},
    Rule{"reasoning_effort", Refuse},
    Rule{"verbosity", Refuse},
    Rule{"web_search_options", Refuse},
};

}  // namespace

ApiStatus ParseChatRequest(const nlohmann::json& body, const ApiLimits& limits, ChatRequest& out) {
  if (ApiStatus outcome = ReadRequest<ChatRequest>(body, limits, kChatRules, out); !outcome.ok()) {
    return outcome;
  }
  if (out.messages.empty()) return FieldFault("messages", "missing, expected an array");
  const auto is_given = [&](const char* name) {
    return body.contains(name) && !body[name].is_null();
  };
  if (is_given("max_tokens") && is_given("max_completion_tokens") &&
      body["max_tokens"] != body["max_completion_tokens"]) {
    return FieldFault("max_tokens", "differs from max_completion_tokens, expected one of them");
  }
  if (out.num_top_logprobs >= 0 && !out.has_logprobs) {
    return FieldFault("top_logprobs", "set without logprobs, expected logprobs: true");
  }
  if (out.has_logprobs) out.request.num_top_logprobs = std::max(out.num_top_logprobs, 0);
  return {};
}

}  // namespace comet
