#include "engine/loader/folder_config.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/loader/json_reader.h"
#include "engine/loader/mapped_file.h"
#include "engine/loader/model_json.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kConfigBytesMax = 16 << 20;
constexpr int kConfigDepth = 32;

// An architecture, and what its configuration class in Hugging Face's transformers takes for a key
// that is absent.
struct Architecture {
  std::string_view model_type;
  std::string_view class_name;
  int vocab_size;
  int num_kv_heads;  // 0: as many as heads.
  int context_length_max;
  int sliding_window;
  bool has_qkv_bias;
};

constexpr std::array<Architecture, 3> kArchitectures = {{
    {"llama", "LlamaForCausalLM", 32000, 0, 2048, 0, false},
    {"mistral", "MistralForCausalLM", 32000, 8, 131072, 4096, false},
    {"qwen2", "Qwen2ForCausalLM", 151936, 32, 32768, 4096, true},
}};
constexpr double kEpsilonDefault = 1e-6;

Result<Architecture> ReadArchitecture(const JsonReader& root) {
  COMET_ASSIGN_OR_RETURN(const std::string type, root.String("model_type"));
  const auto found = std::ranges::find(kArchitectures, type, &Architecture::model_type);
  if (found == kArchitectures.end()) {
    return Unimplemented(StrCat(root.where(), ".model_type: is \"", type.substr(0, 60),
                                "\", expected \"llama\", \"mistral\" or \"qwen2\""));
  }
  if (!root.Has("architectures")) return *found;
  COMET_ASSIGN_OR_RETURN(const std::vector<std::string> names, root.Strings("architectures", 16));
  if (names.size() != 1 || names.front() != found->class_name) {
    return Unimplemented(StrCat(root.where(), ".architectures: is ",
                                names.empty() ? "empty" : names.front().substr(0, 60),
                                ", expected ", found->class_name, " alone"));
  }
  return *found;
}

// `out` keeps its default where the key is absent.
Status ReadOptionalInt(const JsonReader& reader, std::string_view key, int64_t maximum, int& out) {
  return reader.Has(key) ? reader.Int(key, 1, maximum, out) : Status::Ok();
}

Result<bool> ReadOptionalBool(const JsonReader& reader, std::string_view key) {
  return reader.Has(key) ? reader.Bool(key) : Result<bool>(false);
}

Status ReadShape(const JsonReader& root, const Architecture& architecture, ModelConfig& model) {
  model.name = architecture.model_type;
  if (root.Has("_name_or_path")) {
    COMET_ASSIGN_OR_RETURN(const std::string name, root.String("_name_or_path"));
    if (!name.empty()) model.name = name;
  }
  COMET_RETURN_IF_ERROR(root.Int("hidden_size", 1, kModelDimMax, model.hidden_size));
  COMET_RETURN_IF_ERROR(root.Int("num_hidden_layers", 1, kModelLayersMax, model.num_layers));
  COMET_RETURN_IF_ERROR(root.Int("num_attention_heads", 1, kModelHeadsMax, model.num_heads));
  // A null is as many as heads; only an absent key is the class's default.
  model.num_kv_heads = architecture.num_kv_heads == 0 || root.IsNull("num_key_value_heads")
                           ? model.num_heads
                           : architecture.num_kv_heads;
  COMET_RETURN_IF_ERROR(
      ReadOptionalInt(root, "num_key_value_heads", kModelHeadsMax, model.num_kv_heads));
  model.head_dim = model.hidden_size / model.num_heads;
  COMET_RETURN_IF_ERROR(ReadOptionalInt(root, "head_dim", kHeadDimMax, model.head_dim));
  model.rotary_dim = model.head_dim;
  COMET_RETURN_IF_ERROR(root.Int("intermediate_size", 1, kModelDimMax, model.ffn_size));
  model.vocab_size = architecture.vocab_size;
  COMET_RETURN_IF_ERROR(ReadOptionalInt(root, "vocab_size", kVocabSizeMax, model.vocab_size));
  model.context_length_max = architecture.context_length_max;
  COMET_RETURN_IF_ERROR(
      ReadOptionalInt(root, "max_position_embeddings", kModelContextMax, model.context_length_max));
  double epsilon = kEpsilonDefault;
  if (root.Has("rms_norm_eps")) {
    COMET_ASSIGN_OR_RETURN(epsilon, root.Number("rms_norm_eps", 0.0, 1.0));
  }
  model.rms_norm_epsilon = static_cast<float>(epsilon);
  COMET_ASSIGN_OR_RETURN(model.tied_embeddings, ReadOptionalBool(root, "tie_word_embeddings"));
  return Status::Ok();
}

// Qwen2's first max_window_layers layers have none.
Status ReadQwen2Window(const JsonReader& root, ModelConfig& model) {
  COMET_ASSIGN_OR_RETURN(const bool is_used, ReadOptionalBool(root, "use_sliding_window"));
  if (!is_used) model.sliding_window = 0;
  if (model.sliding_window == 0) return Status::Ok();
  int num_full = 28;
  if (root.Has("max_window_layers")) {
    COMET_RETURN_IF_ERROR(root.Int("max_window_layers", 0, kModelLayersMax * 64, num_full));
  }
  if (num_full >= model.num_layers) {
    model.sliding_window = 0;
  } else if (num_full > 0) {
    return Unimplemented(StrCat(root.where(), ".max_window_layers: is ", num_full, " of ",
                                model.num_layers, " layers, expected all alike"));
  }
  return Status::Ok();
}

Status ReadWindow(const JsonReader& root, const Architecture& architecture, ModelConfig& model) {
  const bool is_none = architecture.sliding_window == 0 || root.IsNull("sliding_window");
  model.sliding_window = is_none ? 0 : architecture.sliding_window;
  if (architecture.sliding_window > 0) {
    COMET_RETURN_IF_ERROR(
        ReadOptionalInt(root, "sliding_window", kModelContextMax, model.sliding_window));
  }
  if (architecture.model_type == "qwen2") COMET_RETURN_IF_ERROR(ReadQwen2Window(root, model));
  if (!root.Has("layer_types")) return Status::Ok();
  COMET_ASSIGN_OR_RETURN(const std::vector<std::string> types,
                         root.Strings("layer_types", kModelLayersMax));
  const std::string_view expected =
      model.sliding_window > 0 ? "sliding_attention" : "full_attention";
  for (const std::string& type : types) {
    if (type == expected) continue;
    return Unimplemented(StrCat(root.where(), ".layer_types: has \"", type.substr(0, 60),
                                "\", expected \"", expected, "\" for all layers"));
  }
  return Status::Ok();
}

// What would change results and has no place here.
Status CheckUnsupported(const JsonReader& root) {
  if (root.Has("hidden_act")) {
    COMET_ASSIGN_OR_RETURN(const std::string activation, root.String("hidden_act"));
    if (activation != "silu" && activation != "swish") {
      return Unimplemented(StrCat(root.where(), ".hidden_act: is \"", activation.substr(0, 60),
                                  "\", expected \"silu\""));
    }
  }
  // One of o_proj, and of the MLP's three.
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    COMET_ASSIGN_OR_RETURN(const bool is_set, ReadOptionalBool(root, key));
    if (is_set) return Unimplemented(StrCat(root.where(), ".", key, ": is true, expected false"));
  }
  return Status::Ok();
}

Result<FolderConfig> Parse(const JsonReader& root) {
  COMET_RETURN_IF_ERROR(root.CheckObject());
  FolderConfig config;
  if (root.Has("quantization_config")) {
    COMET_ASSIGN_OR_RETURN(const JsonReader quantization, root.Object("quantization_config"));
    COMET_ASSIGN_OR_RETURN(config.packed, ParsePackedFormat(quantization));
  }
  COMET_ASSIGN_OR_RETURN(const Architecture architecture, ReadArchitecture(root));
  config.architecture = architecture.model_type;
  config.has_qkv_bias = architecture.has_qkv_bias;
  ModelConfig& model = config.model;
  COMET_RETURN_IF_ERROR(ReadShape(root, architecture, model));
  COMET_RETURN_IF_ERROR(CheckUnsupported(root));
  COMET_RETURN_IF_ERROR(ReadWindow(root, architecture, model));
  COMET_RETURN_IF_ERROR(ReadRope(root, model.context_length_max, model.rope));
  COMET_RETURN_IF_ERROR(ReadTokenIds(root, model));
  const Status valid = model.Validate();
  if (!valid.ok()) return DataLoss(StrCat(root.where(), ": ", valid.message()));
  return config;
}

}  // namespace

Result<FolderConfig> ParseFolderConfig(const std::string& where, std::string_view text) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(where, text, kConfigDepth));
  return Parse(JsonReader(where, json));
}

Result<nlohmann::json> ReadConfigJson(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kConfigBytesMax));
  return ParseJson(path, text, kConfigDepth);
}

Result<FolderConfig> ReadFolderConfigFile(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json json, ReadConfigJson(path));
  return Parse(JsonReader(path, json));
}

Result<FolderConfig> ReadFolderConfig(const std::string& folder) {
  return ReadFolderConfigFile(StrCat(folder, "/config.json"));
}

bool IsCometCheckpoint(const std::string& folder) {
  const std::string path = StrCat(folder, "/config.json");
  const Result<nlohmann::json> json = ReadConfigJson(path);
  if (!json.ok()) return false;
  const JsonReader root(path, *json);
  if (!root.CheckObject().ok() || !root.Has("quantization_config")) return false;
  const Result<JsonReader> quantization = root.Object("quantization_config");
  if (!quantization.ok() || !quantization->Has("quant_method")) return false;
  const Result<std::string> method = quantization->String("quant_method");
  return method.ok() && *method == "comet";
}

}  // namespace comet
