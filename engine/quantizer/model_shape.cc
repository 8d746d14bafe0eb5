#include "engine/quantizer/model_shape.h"

#include <filesystem>
#include <memory>

#include <nlohmann/json.hpp>

#include "engine/loader/float_source.h"
#include "engine/loader/json_reader.h"
#include "engine/loader/mapped_file.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int kConfigDepth = 16;
constexpr int64_t kConfigBytesMax = 1 << 20;

Status ReadInt(const JsonReader& reader, std::string_view key, int64_t maximum, int& out) {
  COMET_ASSIGN_OR_RETURN(const int64_t value, reader.Int(key, 1, maximum));
  out = static_cast<int>(value);
  return Status::Ok();
}

// `out` keeps its default where the key is absent.
Status ReadOptionalInt(const JsonReader& reader, std::string_view key, int64_t maximum, int& out) {
  return reader.Has(key) ? ReadInt(reader, key, maximum, out) : Status::Ok();
}

Status ReadRope(const JsonReader& root, RopeConfig& rope) {
  if (root.Has("rope_theta")) {
    COMET_ASSIGN_OR_RETURN(rope.theta, root.Number("rope_theta", 1e-3, 1e12));
  }
  if (!root.Has("rope_scaling")) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(const JsonReader scaling, root.Object("rope_scaling"));
  // The library's older name of the key.
  COMET_ASSIGN_OR_RETURN(rope.type,
                         scaling.String(scaling.Has("rope_type") ? "rope_type" : "type"));
  if (rope.type == "default") return Status::Ok();
  if (rope.type != "linear" && rope.type != "llama3") {
    return Unimplemented(StrCat("rope_scaling.rope_type: is \"", rope.type,
                                "\", expected \"default\", \"linear\" or \"llama3\""));
  }
  COMET_ASSIGN_OR_RETURN(rope.factor, scaling.Number("factor", 1e-6, 1e6));
  if (rope.type == "linear") return Status::Ok();
  COMET_ASSIGN_OR_RETURN(rope.low_frequency_factor, scaling.Number("low_freq_factor", 1e-6, 1e6));
  COMET_ASSIGN_OR_RETURN(rope.high_frequency_factor, scaling.Number("high_freq_factor", 1e-6, 1e6));
  return ReadInt(scaling, "original_max_position_embeddings", kModelContextMax,
                 rope.original_context_max);
}

// Qwen2 states a window that it does not use unless it says so.
Status ReadWindow(const JsonReader& root, const std::string& type, int& window) {
  bool is_used = type == "mistral";
  if (root.Has("use_sliding_window")) {
    COMET_ASSIGN_OR_RETURN(is_used, root.Bool("use_sliding_window"));
  }
  return is_used ? ReadOptionalInt(root, "sliding_window", kModelContextMax, window) : Status::Ok();
}

Result<ModelShape> ParseShape(const JsonReader& root) {
  COMET_RETURN_IF_ERROR(root.CheckObject());
  COMET_ASSIGN_OR_RETURN(const std::string type, root.String("model_type"));
  if (type != "llama" && type != "mistral" && type != "qwen2") {
    return Unimplemented(
        StrCat("model_type: is \"", type, "\", expected \"llama\", \"mistral\" or \"qwen2\""));
  }
  ModelShape shape;
  ModelConfig& config = shape.config;
  config.name = type;
  COMET_RETURN_IF_ERROR(ReadInt(root, "hidden_size", kModelDimMax, config.hidden_size));
  COMET_RETURN_IF_ERROR(ReadInt(root, "num_hidden_layers", kModelLayersMax, config.num_layers));
  COMET_RETURN_IF_ERROR(ReadInt(root, "num_attention_heads", kModelHeadsMax, config.num_heads));
  config.num_kv_heads = config.num_heads;
  COMET_RETURN_IF_ERROR(
      ReadOptionalInt(root, "num_key_value_heads", config.num_heads, config.num_kv_heads));
  config.head_dim = config.hidden_size / config.num_heads;
  COMET_RETURN_IF_ERROR(ReadOptionalInt(root, "head_dim", kHeadDimMax, config.head_dim));
  config.rotary_dim = config.head_dim;
  COMET_RETURN_IF_ERROR(ReadInt(root, "intermediate_size", kModelDimMax, config.ffn_size));
  COMET_RETURN_IF_ERROR(ReadInt(root, "vocab_size", kVocabSizeMax, config.vocab_size));
  config.context_length_max = 2048;
  COMET_RETURN_IF_ERROR(ReadOptionalInt(root, "max_position_embeddings", kModelContextMax,
                                        config.context_length_max));
  COMET_RETURN_IF_ERROR(ReadWindow(root, type, config.sliding_window));
  config.rms_norm_epsilon = 1e-6f;
  if (root.Has("rms_norm_eps")) {
    COMET_ASSIGN_OR_RETURN(const double epsilon, root.Number("rms_norm_eps", 0.0, 1.0));
    config.rms_norm_epsilon = static_cast<float>(epsilon);
  }
  COMET_RETURN_IF_ERROR(ReadRope(root, config.rope));
  if (root.Has("tie_word_embeddings")) {
    COMET_ASSIGN_OR_RETURN(config.tied_embeddings, root.Bool("tie_word_embeddings"));
  }
  shape.has_qkv_bias = type == "qwen2";
  if (root.Has("attention_bias")) {
    COMET_ASSIGN_OR_RETURN(shape.has_qkv_bias, root.Bool("attention_bias"));
  }
  COMET_RETURN_IF_ERROR(config.Validate());
  return shape;
}

}  // namespace

Result<ModelShape> ParseModelShape(const std::string& where, std::string_view text) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(where, text, kConfigDepth));
  Result<ModelShape> shape = ParseShape(JsonReader(where, json));
  if (shape.ok() || shape.status().message().starts_with(where)) return shape;
  return Status(shape.status().code(), StrCat(where, ": ", shape.status().message()));
}

Result<ModelShape> ReadModelShape(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // What cannot be looked at is opened as a file, which says why.
  const bool is_folder = fs::is_directory(path, ignored);
  if (!is_folder && fs::path(path).extension() != ".json") {
    COMET_ASSIGN_OR_RETURN(const std::unique_ptr<FloatSource> source, FloatSource::Open(path));
    COMET_ASSIGN_OR_RETURN(const FloatLayer layer, source->ReadLayer(0));
    return ModelShape{.config = source->config(), .has_qkv_bias = !layer.qkv_bias.empty()};
  }
  const std::string file = is_folder ? path + "/config.json" : path;
  COMET_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file, kConfigBytesMax));
  return ParseModelShape(file, text);
}

}  // namespace comet
