#include "engine/chat_template/chat_template.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "engine/chat_template/interpreter.h"
#include "engine/chat_template/lexer.h"
#include "engine/chat_template/statement_parser.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using jinja::Body;
using jinja::Interpreter;
using jinja::Sandbox;
using jinja::Value;
using nlohmann::ordered_json;

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char next = ReadUtf8Char(text);
    if (next.state != Utf8State::kValid) return false;
    text.remove_prefix(next.num_bytes);
  }
  return true;
}

Result<Value> FromJson(Sandbox& sandbox, const ordered_json& json, int depth_left);

Result<Value> ListFromJson(Sandbox& sandbox, const ordered_json& json, int depth_left) {
  std::vector<Value> items;
  items.reserve(json.size());
  for (const ordered_json& element : json) {
    COMET_ASSIGN_OR_RETURN(Value item, FromJson(sandbox, element, depth_left - 1));
    items.push_back(std::move(item));
  }
  return sandbox.NewList(std::move(items));
}

Result<Value> DictFromJson(Sandbox& sandbox, const ordered_json& json, int depth_left) {
  std::vector<std::pair<Value, Value>> items;
  items.reserve(json.size());
  for (const auto& [name, element] : json.items()) {
    COMET_ASSIGN_OR_RETURN(Value key, sandbox.NewString(name));
    COMET_ASSIGN_OR_RETURN(Value value, FromJson(sandbox, element, depth_left - 1));
    items.emplace_back(std::move(key), std::move(value));
  }
  return sandbox.NewDict(std::move(items));
}

Result<Value> FromJson(Sandbox& sandbox, const ordered_json& json, int depth_left) {
  if (depth_left < 0) {
    return ResourceExhausted(
        StrCat("a given value is nested more than ", sandbox.depth_max(), " deep"));
  }
  switch (json.type()) {
    case ordered_json::value_t::null: return Value::None();
    case ordered_json::value_t::boolean: return Value(json.get<bool>());
    case ordered_json::value_t::number_integer: return Value(json.get<int64_t>());
    case ordered_json::value_t::number_unsigned:
      // Python's integers have no end; ours do, and beyond it a number loses its last digits.
      if (json.get<uint64_t>() > INT64_MAX) return Value(json.get<double>());
      return Value(json.get<int64_t>());
    case ordered_json::value_t::number_float: return Value(json.get<double>());
    case ordered_json::value_t::string:
      return sandbox.NewString(json.get_ref<const std::string&>());
    case ordered_json::value_t::array: return ListFromJson(sandbox, json, depth_left);
    case ordered_json::value_t::object: return DictFromJson(sandbox, json, depth_left);
    case ordered_json::value_t::binary:
    case ordered_json::value_t::discarded: break;
  }
  return InvalidArgument("a given value is not JSON");
}

class ParsedChatTemplate final : public ChatTemplate {
 public:
  ParsedChatTemplate(Body body, const ChatTemplateLimits& limits, ChatTemplateClock clock)
      : body_(std::move(body)), limits_(limits), clock_(std::move(clock)) {}

  Result<std::string> Render(const ordered_json& values) const override {
    if (!values.is_object()) return InvalidArgument("chat template: values is not an object");
    Sandbox sandbox(limits_, clock_);
    Interpreter interpreter(sandbox);
    for (const auto& item : values.items()) {
      Result<Value> value = FromJson(sandbox, item.value(), limits_.depth_max);
      if (!value.ok()) {
        return Status(value.status().code(),
                      StrCat("chat template: ", item.key(), ": ", value.status().message()));
      }
      interpreter.Define(item.key(), std::move(*value));
    }
    return interpreter.Render(body_);
  }

 private:
  const Body body_;
  const ChatTemplateLimits limits_;
  const ChatTemplateClock clock_;
};

}  // namespace

std::time_t SystemTime() { return std::time(nullptr); }

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source,
                                                          const ChatTemplateLimits& limits,
                                                          ChatTemplateClock clock) {
  if (!IsUtf8(source)) return InvalidArgument("chat template: the template is not UTF-8");
  COMET_ASSIGN_OR_RETURN(std::vector<jinja::Token> tokens, jinja::Tokenize(source));
  jinja::TokenStream stream(std::move(tokens), limits.depth_max);
  COMET_ASSIGN_OR_RETURN(Body body, jinja::StatementParser(stream).ParseTemplate());
  return std::unique_ptr<ChatTemplate>(
      std::make_unique<ParsedChatTemplate>(std::move(body), limits, std::move(clock)));
}

}  // namespace comet
