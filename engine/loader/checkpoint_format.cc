#include "engine/loader/checkpoint_format.h"

#include <nlohmann/json.hpp>

#include "engine/chat_template/named_templates.h"
#include "engine/loader/json_reader.h"
#include "engine/loader/model_json.h"
#include "kernels/base/str_cat.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

constexpr int kConfigDepth = 16;

ordered_json LinearJson(const LinearPrecision& linear) {
  return {{"num_int4_channels", linear.num_int4_channels}, {"clip", linear.clip}};
}

ordered_json LayerJson(const LayerPrecision& layer) {
  return {{"qkv", LinearJson(layer.qkv)},
          {"o", LinearJson(layer.o)},
          {"gate_up", LinearJson(layer.gate_up)},
          {"down", LinearJson(layer.down)},
          {"k_bits", layer.kv.k_bits},
          {"v_bits", layer.kv.v_bits},
          {"qk_hadamard", layer.qk_hadamard},
          {"down_hadamard", layer.down_hadamard}};
}

Status ParseShape(const JsonReader& reader, ModelConfig& model) {
  COMET_ASSIGN_OR_RETURN(model.name, reader.String("_name_or_path"));
  COMET_RETURN_IF_ERROR(reader.Int("hidden_size", 1, kModelDimMax, model.hidden_size));
  COMET_RETURN_IF_ERROR(reader.Int("num_hidden_layers", 1, kModelLayersMax, model.num_layers));
  COMET_RETURN_IF_ERROR(reader.Int("num_attention_heads", 1, kModelHeadsMax, model.num_heads));
  COMET_RETURN_IF_ERROR(reader.Int("num_key_value_heads", 1, model.num_heads, model.num_kv_heads));
  COMET_RETURN_IF_ERROR(reader.Int("head_dim", 2, kHeadDimMax, model.head_dim));
  COMET_RETURN_IF_ERROR(reader.Int("rotary_dim", 2, model.head_dim, model.rotary_dim));
  COMET_RETURN_IF_ERROR(reader.Int("intermediate_size", 1, kModelDimMax, model.ffn_size));
  COMET_RETURN_IF_ERROR(reader.Int("vocab_size", 1, kVocabSizeMax, model.vocab_size));
  COMET_RETURN_IF_ERROR(
      reader.Int("max_position_embeddings", 1, kModelContextMax, model.context_length_max));
  if (reader.Has("sliding_window")) {
    COMET_RETURN_IF_ERROR(reader.Int("sliding_window", 1, kModelContextMax, model.sliding_window));
  }
  COMET_ASSIGN_OR_RETURN(const double epsilon, reader.Number("rms_norm_eps", 0.0, 1.0));
  model.rms_norm_epsilon = static_cast<float>(epsilon);
  COMET_ASSIGN_OR_RETURN(model.tied_embeddings, reader.Bool("tie_word_embeddings"));
  return Status::Ok();
}

Status ParseLinear(const JsonReader& layer, std::string_view key, int num_channels,
                   LinearPrecision& linear) {
  COMET_ASSIGN_OR_RETURN(const JsonReader reader, layer.Object(key));
  COMET_RETURN_IF_ERROR(reader.Int("num_int4_channels", 0, num_channels, linear.num_int4_channels));
  if (linear.num_int4_channels % kBlockChannels != 0) {
    return DataLoss(StrCat(key, ".num_int4_channels: is ", linear.num_int4_channels,
                           ", expected a multiple of ", kBlockChannels));
  }
  COMET_ASSIGN_OR_RETURN(const double clip, reader.Number("clip", 1e-3, 1.0));
  linear.clip = static_cast<float>(clip);
  return Status::Ok();
}

Status ParseLayer(const JsonReader& reader, const ModelConfig& model, LayerPrecision& layer) {
  COMET_RETURN_IF_ERROR(ParseLinear(reader, "qkv", model.hidden_size, layer.qkv));
  COMET_RETURN_IF_ERROR(ParseLinear(reader, "o", model.q_size(), layer.o));
  COMET_RETURN_IF_ERROR(ParseLinear(reader, "gate_up", model.hidden_size, layer.gate_up));
  COMET_RETURN_IF_ERROR(ParseLinear(reader, "down", model.ffn_size, layer.down));
  for (const auto& [key, bits] : {std::pair<std::string_view, int*>("k_bits", &layer.kv.k_bits),
                                  std::pair<std::string_view, int*>("v_bits", &layer.kv.v_bits)}) {
    COMET_RETURN_IF_ERROR(reader.Int(key, 4, 32, *bits));
    if (*bits != 4 && *bits != 8 && *bits != 16 && *bits != 32) {
      return DataLoss(StrCat(key, ": is ", *bits, ", expected 4, 8, 16 or 32"));
    }
  }
  COMET_ASSIGN_OR_RETURN(layer.qk_hadamard, reader.Bool("qk_hadamard"));
  // Checkpoints from before it have none.
  if (reader.Has("down_hadamard")) {
    COMET_ASSIGN_OR_RETURN(layer.down_hadamard, reader.Bool("down_hadamard"));
  }
  return Status::Ok();
}

Status ParseQuantization(const JsonReader& root, CheckpointConfig& config) {
  COMET_ASSIGN_OR_RETURN(const JsonReader reader, root.Object("quantization_config"));
  COMET_ASSIGN_OR_RETURN(const std::string method, reader.String("quant_method"));
  if (method != "comet") {
    return Unimplemented(StrCat("quant_method: is \"", method, "\", expected \"comet\""));
  }
  COMET_ASSIGN_OR_RETURN(const int64_t version, reader.Int("format_version", 1, 1 << 20));
  if (version > kCheckpointFormatVersion) {
    return Unimplemented(
        StrCat("format_version: is ", version, ", expected at most ", kCheckpointFormatVersion));
  }
  COMET_RETURN_IF_ERROR(reader.Int("block_channels", kBlockChannels, kBlockChannels).status());
  COMET_ASSIGN_OR_RETURN(config.has_qkv_bias, reader.Bool("has_qkv_bias"));
  COMET_ASSIGN_OR_RETURN(const std::vector<JsonReader> layers,
                         reader.Objects("layers", static_cast<size_t>(kModelLayersMax)));
  if (layers.size() != static_cast<size_t>(config.model.num_layers)) {
    return DataLoss(
        StrCat("layers: has ", layers.size(), " entries, expected ", config.model.num_layers));
  }
  for (const JsonReader& layer_reader : layers) {
    LayerPrecision layer;
    COMET_RETURN_IF_ERROR(ParseLayer(layer_reader, config.model, layer));
    config.layers.push_back(layer);
  }
  return Status::Ok();
}

Result<CheckpointConfig> ParseRoot(const JsonReader& root) {
  COMET_RETURN_IF_ERROR(root.CheckObject());
  COMET_ASSIGN_OR_RETURN(const std::string type, root.String("model_type"));
  if (type != "llama") {
    return Unimplemented(StrCat("model_type: is \"", type, "\", expected \"llama\""));
  }
  CheckpointConfig config;
  COMET_RETURN_IF_ERROR(ParseShape(root, config.model));
  COMET_RETURN_IF_ERROR(ReadTokenIds(root, config.model));
  COMET_RETURN_IF_ERROR(ReadRope(root, config.model.context_length_max, config.model.rope));
  const Status valid = config.model.Validate();
  if (!valid.ok()) return DataLoss(valid.message());
  COMET_RETURN_IF_ERROR(ParseQuantization(root, config));
  return config;
}

}  // namespace

std::string TemplateFileOf(std::string_view template_name) {
  if (template_name == kDefaultTemplateName) return "chat_template.jinja";
  return StrCat("chat_template.", template_name, ".jinja");
}

std::string TemplateNameOf(std::string_view file_name) {
  constexpr std::string_view kPrefix = "chat_template.";
  constexpr std::string_view kSuffix = ".jinja";
  if (file_name == "chat_template.jinja") return std::string(kDefaultTemplateName);
  const bool is_named = file_name.starts_with(kPrefix) && file_name.ends_with(kSuffix) &&
                        file_name.size() > kPrefix.size() + kSuffix.size();
  if (!is_named) return "";
  const std::string_view name =
      file_name.substr(kPrefix.size(), file_name.size() - kPrefix.size() - kSuffix.size());
  return IsTemplateName(name) ? std::string(name) : "";
}

std::string CheckpointConfigText(const CheckpointConfig& config) {
  const ModelConfig& model = config.model;
  ordered_json layers = ordered_json::array();
  for (const LayerPrecision& layer : config.layers) layers.push_back(LayerJson(layer));
  ordered_json json = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"_name_or_path", model.name},
      {"hidden_act", "silu"},
      {"hidden_size", model.hidden_size},
      {"num_hidden_layers", model.num_layers},
      {"num_attention_heads", model.num_heads},
      {"num_key_value_heads", model.num_kv_heads},
      {"head_dim", model.head_dim},
      {"rotary_dim", model.rotary_dim},
      {"intermediate_size", model.ffn_size},
      {"vocab_size", model.vocab_size},
      {"max_position_embeddings", model.context_length_max},
      {"sliding_window",
       model.sliding_window > 0 ? ordered_json(model.sliding_window) : ordered_json(nullptr)},
      {"rms_norm_eps", model.rms_norm_epsilon},
      {"rope_theta", model.rope.theta},
      {"rope_scaling", RopeScalingJson(model.rope)},
      {"tie_word_embeddings", model.tied_embeddings},
      {"bos_token_id", model.bos_id >= 0 ? ordered_json(model.bos_id) : ordered_json(nullptr)},
      {"eos_token_id", model.eos_ids},
  };
  json["quantization_config"] = {{"quant_method", "comet"},
                                 {"format_version", kCheckpointFormatVersion},
                                 {"block_channels", kBlockChannels},
                                 {"has_qkv_bias", config.has_qkv_bias},
                                 {"layers", std::move(layers)}};
  // A name of invalid UTF-8 would make dump() throw; its bytes are replaced.
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

Result<CheckpointConfig> ParseCheckpointConfig(const std::string& where, std::string_view text) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(where, text, kConfigDepth));
  Result<CheckpointConfig> config = ParseRoot(JsonReader(where, json));
  if (config.ok() || config.status().message().starts_with(where)) return config;
  return Status(config.status().code(), StrCat(where, ": ", config.status().message()));
}

}  // namespace comet
