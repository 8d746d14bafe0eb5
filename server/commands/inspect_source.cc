#include "server/commands/inspect_source.h"

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/loader/float_source.h"
#include "engine/loader/folder_config.h"
#include "engine/loader/folder_weights.h"
#include "engine/loader/gguf_config.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/json_reader.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

// Reasons why a source cannot be used, without repeats.
class Problems {
 public:
  void Add(const Status& status) {
    if (status.ok()) return;
    if (first_.ok()) first_ = status;
    for (const ordered_json& known : messages_) {
      if (known == status.message()) return;
    }
    messages_.push_back(status.message());
  }
  const Status& first() const { return first_; }
  void Write(ordered_json& json) const {
    if (!messages_.empty()) json["unsupported"] = messages_;
  }

 private:
  Status first_ = Status::Ok();
  ordered_json messages_ = ordered_json::array();
};

// The numbers of a config.json as they stand, for one whose meaning is not known.
Status DescribeRawConfig(const std::string& path, ordered_json& json) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json config, ReadConfigJson(path));
  COMET_RETURN_IF_ERROR(JsonReader(path, config).CheckObject());
  static constexpr std::pair<const char*, const char*> kKeys[] = {
      {"model_type", "architecture"},
      {"hidden_size", "hidden_size"},
      {"num_hidden_layers", "num_layers"},
      {"num_attention_heads", "num_heads"},
      {"num_key_value_heads", "num_kv_heads"},
      {"head_dim", "head_dim"},
      {"intermediate_size", "ffn_size"},
      {"vocab_size", "vocab_size"},
      {"max_position_embeddings", "context_length_max"}};
  for (const auto& [key, name] : kKeys) {
    const auto found = config.find(key);
    if (found != config.end() && found->is_primitive()) json[name] = *found;
  }
  return Status::Ok();
}

Status DescribeFolder(const std::string& folder, ordered_json& json, Problems& problems) {
  json["format"] = "safetensors";
  const Result<FolderConfig> config = ReadFolderConfig(folder);
  if (config.ok()) {
    json.update(ConfigJson(config->model, config->architecture));
    json["has_qkv_bias"] = config->has_qkv_bias;
    json["packing"] = ToString(config->packed.method);
  } else {
    COMET_RETURN_IF_ERROR(DescribeRawConfig(folder + "/config.json", json));
  }
  problems.Add(config.status());

  const Result<FolderWeights> weights = FolderWeights::Open(folder);
  problems.Add(weights.status());
  if (!weights.ok()) return Status::Ok();
  std::map<std::string, int> num_tensors;
  for (const auto& [name, tensor] : weights->tensors()) ++num_tensors[std::string(tensor.dtype)];
  json["file_bytes"] = weights->num_bytes();
  json["tensor_types"] = num_tensors;
  return Status::Ok();
}

Status DescribeGguf(const std::string& path, ordered_json& json, Problems& problems) {
  COMET_RETURN_IF_ERROR(FloatSource::CheckFileName(path));
  COMET_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path));
  json["format"] = "gguf";
  const Result<GgufConfig> config = ReadGgufConfig(file);
  problems.Add(config.status());
  if (config.ok()) {
    json.update(ConfigJson(config->model, config->architecture));
  } else {
    COMET_ASSIGN_OR_RETURN(const std::optional<std::string> architecture,
                           file.FindString("general.architecture"));
    json["architecture"] = architecture.value_or("");
  }
  std::map<std::string, int> num_tensors;
  for (const GgufTensor& tensor : file.tensors()) ++num_tensors[ToString(tensor.type)];
  json["file_bytes"] = file.num_bytes();
  json["tensor_types"] = num_tensors;
  return Status::Ok();
}

}  // namespace

ordered_json ConfigJson(const ModelConfig& config, const std::string& architecture) {
  return {{"name", config.name},
          {"architecture", architecture},
          {"hidden_size", config.hidden_size},
          {"num_layers", config.num_layers},
          {"num_heads", config.num_heads},
          {"num_kv_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"ffn_size", config.ffn_size},
          {"vocab_size", config.vocab_size},
          {"context_length_max", config.context_length_max},
          {"sliding_window", config.sliding_window},
          {"rope_theta", config.rope.theta},
          {"rope_scaling", config.rope.type},
          {"tied_embeddings", config.tied_embeddings}};
}

Status DescribeSource(const std::string& path, ordered_json& json, Status& usable) {
  Problems problems;
  std::error_code ignored;  // What cannot be looked at is opened as a file, which says why.
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  COMET_RETURN_IF_ERROR(is_folder ? DescribeFolder(path, json, problems)
                                  : DescribeGguf(path, json, problems));
  const Result<std::unique_ptr<FloatSource>> source = FloatSource::Open(path);
  if (source.ok()) {
    json["has_chat_template"] = !(*source)->chat_templates().empty();
  } else {
    problems.Add(source.status());
  }
  problems.Write(json);
  usable = problems.first();
  return Status::Ok();
}

}  // namespace comet
