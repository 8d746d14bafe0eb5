#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "server/http/api_status.h"

namespace comet {

// What requests are checked against. Bounds of the engine are the engine's own: see Submit().
struct ApiLimits {
  int choices_max = 16;
  int prompts_max = 64;  // Of one completions request.
  int messages_max = 4096;
  int stop_texts_max = 16;
  int stop_bytes_max = 1024;  // Of one stop text.
  int stop_token_ids_max = 128;
  int logit_bias_max = 1024;
  int vocab_size = 0;
  int deadline_ms_max = 600000;
};

// One value of a request and where it stands.
struct FieldValue {
  const nlohmann::json& json;
  std::string param;  // "messages[2].content"
  const ApiLimits& limits;
};

// How one field of a request is read into T. A schema is a table of these.
template <typename T>
struct FieldRule {
  std::string_view name;
  ApiStatus (*read)(const FieldValue& field, T& out);
};

template <typename T>
const FieldRule<T>* FindRule(std::span<const FieldRule<T>> rules, std::string_view name) {
  for (const FieldRule<T>& rule : rules) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

// "an object", "a string", ...: for messages.
std::string_view KindOf(const nlohmann::json& value);

ApiStatus UnknownField(const std::string& param);
std::string MemberParam(const std::string& param, std::string_view name);

// Reads an object by its table. null counts as absent. Errors: a field that is not in the table,
// and whatever its rule finds; `param` is always set.
template <typename T>
ApiStatus ReadObject(const FieldValue& object, std::span<const FieldRule<T>> rules, T& out) {
  if (!object.json.is_object()) {
    return FieldFault(object.param.empty() ? "body" : object.param,
                      "value is " + std::string(KindOf(object.json)) + ", expected an object");
  }
  for (const auto& [name, value] : object.json.items()) {
    std::string param = MemberParam(object.param, name);
    const FieldRule<T>* rule = FindRule(rules, name);
    if (rule == nullptr) return UnknownField(param);
    if (value.is_null()) continue;
    ApiStatus outcome = rule->read({value, std::move(param), object.limits}, out);
    if (!outcome.ok()) return outcome;
  }
  return {};
}

// Readers of single values. Ranges include both ends unless the name says otherwise.
ApiStatus ReadBool(const FieldValue& field, bool& out);
ApiStatus ReadString(const FieldValue& field, std::string& out);
ApiStatus ReadInt(const FieldValue& field, int64_t minimum, int64_t maximum, int& out);
ApiStatus ReadFloat(const FieldValue& field, double minimum, double maximum, float& out);
ApiStatus ReadPositiveFloat(const FieldValue& field, double maximum, float& out);
// Any 64-bit integer; a negative one by its bits.
ApiStatus ReadSeed(const FieldValue& field, std::optional<uint64_t>& out);
// An array of ids below the vocabulary's size.
ApiStatus ReadTokenIds(const FieldValue& field, int64_t count_max, std::vector<int>& out);

// Rules for what cannot be honoured.
ApiStatus RefuseField(const FieldValue& field);
// Accepts only what asks for nothing: false, "", [], {}.
ApiStatus AcceptEmpty(const FieldValue& field);
// Accepts any text, which changes nothing.
ApiStatus AcceptText(const FieldValue& field);
// OpenAI's metadata: up to 16 texts by name, which change nothing.
ApiStatus AcceptMetadata(const FieldValue& field);
// Accepts only these texts, which change nothing.
ApiStatus AcceptOneOf(const FieldValue& field, std::span<const std::string_view> allowed);

}  // namespace comet
