#pragma once

#include <span>
#include <string>

#include "engine/request.h"
#include "server/openai/field_parser.h"

namespace comet {

// What chat and completions requests have in common.
struct GenerateFields {
  std::string model;  // Empty: whichever is served.
  bool is_stream = false;
  bool has_stream_options = false;
  bool has_usage_in_stream = false;
  // The name under which the client gave output_tokens_max. Empty: it is a default, which ends
  // where the context does.
  std::string output_tokens_param;
  Request request;  // All but request_id and prompt_ids.
};

// Reads output_tokens_max, under whichever name the field has.
ApiStatus ReadOutputTokensMax(const FieldValue& field, GenerateFields& out);

// The rule of a shared field, or null. `name` is a member of both requests' schemas.
const FieldRule<GenerateFields>* FindSharedRule(std::string_view name);

// What holds between fields; call when all are read.
ApiStatus CheckShared(const GenerateFields& fields);

// Reads a request by its own table, then the shared one. Own rules go first.
template <typename T>
ApiStatus ReadRequest(const nlohmann::json& body, const ApiLimits& limits,
                      std::span<const FieldRule<T>> own_rules, T& out) {
  if (!body.is_object()) {
    return FieldFault("body", "value is " + std::string(KindOf(body)) + ", expected an object");
  }
  for (const auto& [name, value] : body.items()) {
    const FieldValue field{value, name, limits};
    if (const FieldRule<T>* rule = FindRule(own_rules, name)) {
      if (value.is_null()) continue;
      if (ApiStatus outcome = rule->read(field, out); !outcome.ok()) return outcome;
    } else if (const FieldRule<GenerateFields>* shared_rule = FindSharedRule(name)) {
      if (value.is_null()) continue;
      if (ApiStatus outcome = shared_rule->read(field, out); !outcome.ok()) return outcome;
    } else {
      return UnknownField(name);
    }
  }
  return CheckShared(out);
}

}  // namespace comet
