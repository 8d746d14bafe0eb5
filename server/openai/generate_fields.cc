#include "server/openai/generate_fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int kIntMax = std::numeric_limits<int>::max();

ApiStatus ReadStopText(const FieldValue& field, std::vector<std::string>& out) {
  std::string text;
  if (ApiStatus outcome = ReadString(field, text); !outcome.ok()) return outcome;
  const size_t bytes_max = static_cast<size_t>(field.limits.stop_bytes_max);
  if (text.empty() || text.size() > bytes_max) {
    return FieldFault(field.param,
                      StrCat("length is ", text.size(), " bytes, expected 1 to ", bytes_max));
  }
  out.push_back(std::move(text));
  return {};
}

ApiStatus ReadStop(const FieldValue& field, GenerateFields& out) {
  out.request.stop.clear();
  if (field.json.is_string()) return ReadStopText(field, out.request.stop);
  if (!field.json.is_array()) {
    return FieldFault(field.param, StrCat("value is ", KindOf(field.json),
                                          ", expected a string or an array of strings"));
  }
  const size_t count_max = static_cast<size_t>(field.limits.stop_texts_max);
  if (field.json.size() > count_max) {
    return FieldFault(field.param,
                      StrCat("length is ", field.json.size(), ", expected at most ", count_max));
  }
  for (size_t i = 0; i < field.json.size(); ++i) {
    const FieldValue item{field.json[i], StrCat(field.param, "[", i, "]"), field.limits};
    if (ApiStatus outcome = ReadStopText(item, out.request.stop); !outcome.ok()) return outcome;
  }
  return {};
}

ApiStatus ReadLogitBias(const FieldValue& field, GenerateFields& out) {
  if (!field.json.is_object()) {
    return FieldFault(field.param, StrCat("value is ", KindOf(field.json), ", expected an object"));
  }
  const size_t count_max = static_cast<size_t>(field.limits.logit_bias_max);
  if (field.json.size() > count_max) {
    return FieldFault(field.param,
                      StrCat("length is ", field.json.size(), ", expected at most ", count_max));
  }
  out.request.sampling.logit_bias.clear();
  for (const auto& [name, value] : field.json.items()) {
    int token_id = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), token_id);
    const bool is_id = error == std::errc() && end == name.data() + name.size();
    if (!is_id || token_id < 0 || token_id >= field.limits.vocab_size) {
      return FieldFault(field.param, StrCat("a name is no token id, expected 0 to ",
                                            field.limits.vocab_size - 1));
    }
    float bias = 0.0f;
    const FieldValue member{value, MemberParam(field.param, name), field.limits};
    if (ApiStatus outcome = ReadFloat(member, -100, 100, bias); !outcome.ok()) return outcome;
    out.request.sampling.logit_bias.emplace_back(token_id, bias);
  }
  return {};
}

ApiStatus ReadStreamOptions(const FieldValue& field, GenerateFields& out) {
  static constexpr std::array kRules = {
      FieldRule<GenerateFields>{"include_usage",
                                [](const FieldValue& member, GenerateFields& fields) {
                                  return ReadBool(member, fields.has_usage_in_stream);
                                }},
      FieldRule<GenerateFields>{
          "include_obfuscation",
          [](const FieldValue& member, GenerateFields&) { return AcceptEmpty(member); }},
  };
  out.has_stream_options = true;
  return ReadObject<GenerateFields>(field, kRules, out);
}

// -1 is vLLM's word for all of them, which is 0 here.
ApiStatus ReadTopK(const FieldValue& field, GenerateFields& out) {
  int top_k = 0;
  ApiStatus outcome = ReadInt(field, -1, kIntMax, top_k);
  out.request.sampling.top_k = std::max(top_k, 0);
  return outcome;
}

ApiStatus ReadSkipSpecial(const FieldValue& field, GenerateFields& out) {
  bool skips = true;
  ApiStatus outcome = ReadBool(field, skips);
  out.request.with_special_tokens = !skips;
  return outcome;
}

ApiStatus ReadModel(const FieldValue& field, GenerateFields& out) {
  ApiStatus outcome = ReadString(field, out.model);
  if (outcome.ok() && out.model.empty()) {
    return FieldFault(field.param, "length is 0, expected a model's name");
  }
  return outcome;
}

using Rule = FieldRule<GenerateFields>;
using Field = const FieldValue&;
using Out = GenerateFields&;

constexpr std::array kSharedRules = {
    Rule{"model", ReadModel},
    Rule{"stream", [](Field field, Out out) { return ReadBool(field, out.is_stream); }},
    Rule{"stream_options", ReadStreamOptions},
    Rule{"n",
         [](Field field, Out out) {
           return ReadInt(field, 1, field.limits.choices_max, out.request.num_choices);
         }},
    Rule{"max_tokens", ReadOutputTokensMax},
    Rule{"stop", ReadStop},
    Rule{"stop_token_ids",
         [](Field field, Out out) {
           return ReadTokenIds(field, field.limits.stop_token_ids_max, out.request.stop_token_ids);
         }},
    Rule{"temperature",
         [](Field field, Out out) {
           return ReadFloat(field, 0, 2, out.request.sampling.temperature);
         }},
    Rule{"top_p", [](Field field,
                     Out out) { return ReadPositiveFloat(field, 1, out.request.sampling.top_p); }},
    Rule{"top_k", ReadTopK},
    Rule{"min_p",
         [](Field field, Out out) { return ReadFloat(field, 0, 1, out.request.sampling.min_p); }},
    Rule{"repetition_penalty",
         [](Field field, Out out) {
           return ReadFloat(field, kRepetitionPenaltyMin, kRepetitionPenaltyMax,
                            out.request.sampling.repetition_penalty);
         }},
    Rule{"presence_penalty",
         [](Field field, Out out) {
           return ReadFloat(field, -2, 2, out.request.sampling.presence_penalty);
         }},
    Rule{"frequency_penalty",
         [](Field field, Out out) {
           return ReadFloat(field, -2, 2, out.request.sampling.frequency_penalty);
         }},
    Rule{"seed", [](Field field, Out out) { return ReadSeed(field, out.request.sampling.seed); }},
    Rule{"logit_bias", ReadLogitBias},
    Rule{"ignore_eos",
         [](Field field, Out out) { return ReadBool(field, out.request.ignore_eos); }},
    Rule{"skip_special_tokens", ReadSkipSpecial},
    Rule{"priority",
         [](Field field, Out out) {
           return ReadInt(field, -kPriorityMax, kPriorityMax, out.request.priority);
         }},
    Rule{"deadline_ms",
         [](Field field, Out out) {
           return ReadInt(field, 1, field.limits.deadline_ms_max, out.request.deadline_ms);
         }},
    // Names its user to the operator; nothing here reads it.
    Rule{"user", [](Field field, Out) { return AcceptText(field); }},
};

}  // namespace

ApiStatus ReadOutputTokensMax(const FieldValue& field, GenerateFields& out) {
  out.output_tokens_param = field.param;
  return ReadInt(field, 1, kIntMax, out.request.output_tokens_max);
}

const FieldRule<GenerateFields>* FindSharedRule(std::string_view name) {
  return FindRule<GenerateFields>(kSharedRules, name);
}

ApiStatus CheckShared(const GenerateFields& fields) {
  if (fields.has_stream_options && !fields.is_stream) {
    return FieldFault("stream_options", "set without stream, expected stream: true");
  }
  return {};
}

}  // namespace comet
