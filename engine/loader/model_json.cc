#include "engine/loader/model_json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// For values whose range is ModelConfig::Validate()'s.
constexpr double kAnyNumber = std::numeric_limits<double>::max();

Status ReadOptional(const JsonReader& reader, std::string_view key, double& out) {
  if (!reader.Has(key)) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(out, reader.Number(key, -kAnyNumber, kAnyNumber));
  return Status::Ok();
}

Status CheckWholeHead(const JsonReader& reader) {
  double share = 1.0;
  COMET_RETURN_IF_ERROR(ReadOptional(reader, "partial_rotary_factor", share));
  if (share == 1.0) return Status::Ok();
  return Unimplemented(
      StrCat(reader.where(), ".partial_rotary_factor: is ", share, ", expected 1"));
}

Result<std::string> ReadType(const JsonReader& scaling) {
  const char* key = scaling.Has("rope_type") ? "rope_type" : "type";
  if (!scaling.Has(key)) {
    for (const char* layers : {"full_attention", "sliding_attention"}) {
      if (!scaling.Has(layers)) continue;
      return Unimplemented(
          StrCat(scaling.where(), ".", layers, ": is there, expected one scaling for all layers"));
    }
    return std::string("default");
  }
  COMET_ASSIGN_OR_RETURN(const std::string type, scaling.String(key));
  for (const char* known : {"default", "linear", "llama3", "yarn", "divisors"}) {
    if (type == known) return type;
  }
  const std::string refusal = StrCat(scaling.where(), ".", key, ": is \"", type.substr(0, 60),
                                     "\", expected default, linear, llama3 or yarn");
  if (type != "dynamic" && type != "longrope" && type != "su") return Unimplemented(refusal);
  return Unimplemented(StrCat(refusal,
                              ": its frequencies change with the length of the sequence, and the "
                              "keys in a cache are rotated already"));
}

Status ReadOriginalContext(const JsonReader& root, const JsonReader& scaling,
                           int context_length_max, RopeConfig& rope) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  rope.original_context_max = context_length_max;
  const JsonReader* readers[] = {&root, &scaling};
  for (const JsonReader* reader : readers) {
    if (!reader->Has(kKey)) continue;
    COMET_ASSIGN_OR_RETURN(const int64_t value, reader->Int(kKey, 1, kModelContextMax));
    rope.original_context_max = static_cast<int>(value);
    return Status::Ok();
  }
  return Status::Ok();
}

// What YaRN multiplies queries and keys by. Source: Peng et al. 2023, arXiv:2309.00071, equation
// 22; DeepSeek's files state it as a quotient.
Status ReadAttentionFactor(const JsonReader& scaling, RopeConfig& rope) {
  const auto factor_of = [&](double scale) {
    return rope.factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(rope.factor) + 1.0;
  };
  double scale = 0.0;
  double scale_all = 0.0;
  COMET_RETURN_IF_ERROR(ReadOptional(scaling, "mscale", scale));
  COMET_RETURN_IF_ERROR(ReadOptional(scaling, "mscale_all_dim", scale_all));
  rope.attention_factor =
      scale != 0.0 && scale_all != 0.0 ? factor_of(scale) / factor_of(scale_all) : factor_of(1.0);
  return ReadOptional(scaling, "attention_factor", rope.attention_factor);
}

Status ReadYarn(const JsonReader& root, const JsonReader& scaling, int context_length_max,
                RopeConfig& rope) {
  COMET_RETURN_IF_ERROR(ReadOriginalContext(root, scaling, context_length_max, rope));
  rope.factor = static_cast<double>(context_length_max) / rope.original_context_max;
  COMET_RETURN_IF_ERROR(ReadOptional(scaling, "factor", rope.factor));
  COMET_RETURN_IF_ERROR(ReadOptional(scaling, "beta_fast", rope.beta_fast));
  COMET_RETURN_IF_ERROR(ReadOptional(scaling, "beta_slow", rope.beta_slow));
  if (scaling.Has("truncate")) {
    COMET_ASSIGN_OR_RETURN(const bool truncates, scaling.Bool("truncate"));
    if (!truncates) {
      return Unimplemented(StrCat(scaling.where(), ".truncate: is false, expected true"));
    }
  }
  return ReadAttentionFactor(scaling, rope);
}

Status ReadLlama3(const JsonReader& root, const JsonReader& scaling, int context_length_max,
                  RopeConfig& rope) {
  COMET_RETURN_IF_ERROR(ReadOriginalContext(root, scaling, context_length_max, rope));
  COMET_ASSIGN_OR_RETURN(rope.factor, scaling.Number("factor", -kAnyNumber, kAnyNumber));
  COMET_ASSIGN_OR_RETURN(rope.low_frequency_factor,
                         scaling.Number("low_freq_factor", -kAnyNumber, kAnyNumber));
  COMET_ASSIGN_OR_RETURN(rope.high_frequency_factor,
                         scaling.Number("high_freq_factor", -kAnyNumber, kAnyNumber));
  return Status::Ok();
}

Status ReadDivisors(const JsonReader& scaling, RopeConfig& rope) {
  COMET_ASSIGN_OR_RETURN(const std::vector<double> divisors,
                         scaling.Numbers("divisors", -kAnyNumber, kAnyNumber, kHeadDimMax / 2));
  rope.divisors.assign(divisors.begin(), divisors.end());
  return Status::Ok();
}

}  // namespace

Status ReadRope(const JsonReader& root, int context_length_max, RopeConfig& rope) {
  COMET_RETURN_IF_ERROR(CheckWholeHead(root));
  COMET_RETURN_IF_ERROR(ReadOptional(root, "rope_theta", rope.theta));
  const char* key = root.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!root.Has(key)) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(const JsonReader scaling, root.Object(key));
  COMET_RETURN_IF_ERROR(CheckWholeHead(scaling));
  COMET_RETURN_IF_ERROR(ReadOptional(scaling, "rope_theta", rope.theta));
  COMET_ASSIGN_OR_RETURN(rope.type, ReadType(scaling));
  if (rope.type == "linear") {
    COMET_ASSIGN_OR_RETURN(rope.factor, scaling.Number("factor", -kAnyNumber, kAnyNumber));
  } else if (rope.type == "llama3") {
    return ReadLlama3(root, scaling, context_length_max, rope);
  } else if (rope.type == "yarn") {
    return ReadYarn(root, scaling, context_length_max, rope);
  } else if (rope.type == "divisors") {
    return ReadDivisors(scaling, rope);
  }
  return Status::Ok();
}

Status ReadTokenIds(const JsonReader& root, ModelConfig& model) {
  if (root.Has("bos_token_id")) {
    COMET_RETURN_IF_ERROR(root.Int("bos_token_id", 0, model.vocab_size - 1, model.bos_id));
  }
  if (!root.Has("eos_token_id")) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(const std::vector<int64_t> ids,
                         root.Ints("eos_token_id", 0, model.vocab_size - 1, kEosIdsMax));
  for (const int64_t id : ids) model.eos_ids.push_back(static_cast<int>(id));
  return Status::Ok();
}

nlohmann::ordered_json RopeScalingJson(const RopeConfig& rope) {
  if (rope.type == "default") return nullptr;
  nlohmann::ordered_json json = {{"rope_type", rope.type}};
  if (rope.type == "divisors") {
    json["divisors"] = rope.divisors;
    return json;
  }
  json["factor"] = rope.factor;
  if (rope.type == "linear") return json;
  json["original_max_position_embeddings"] = rope.original_context_max;
  if (rope.type == "llama3") {
    json["low_freq_factor"] = rope.low_frequency_factor;
    json["high_freq_factor"] = rope.high_frequency_factor;
  } else if (rope.type == "yarn") {
    json["beta_fast"] = rope.beta_fast;
    json["beta_slow"] = rope.beta_slow;
    json["attention_factor"] = rope.attention_factor;
  }
  return json;
}

}  // namespace comet
