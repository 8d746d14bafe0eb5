#include "engine/loader/checkpoint.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>

#include "engine/loader/checkpoint_format.h"
#include "engine/loader/checkpoint_tensors.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "engine/loader/mapped_file.h"
#include "engine/loader/safetensors_file.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kConfigBytesMax = 16 << 20;

class MappedCheckpoint final : public Checkpoint {
 public:
  static Result<std::unique_ptr<Checkpoint>> Open(const std::string& folder);

  const ModelConfig& config() const override { return config_.model; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  const std::vector<NamedTemplate>& chat_templates() const override { return chat_templates_; }
  const CheckpointLayer& layer(int layer_idx) const override {
    return layers_[static_cast<size_t>(layer_idx)];
  }
  const Int8Weights& lm_head() const override { return lm_head_; }
  ConstTensorView embedding() const override { return embedding_; }
  ConstTensorView final_norm() const override { return final_norm_; }
  int64_t num_bytes() const override { return weights_.num_bytes(); }

 private:
  MappedCheckpoint(CheckpointConfig config, SafetensorsFile weights)
      : config_(std::move(config)), weights_(std::move(weights)) {}

  Status ReadVocabularyFile(const std::string& path);
  Status ReadChatTemplates(const std::string& folder);
  Status ReadWeights();
  Status ReadLayer(int layer_idx, CheckpointLayer& layer);
  Status ReadLinear(const LinearTensors& tensors, const LinearPrecision& precision,
                    CheckpointLinear& linear);
  Status ReadGather(const SafetensorsSpec& spec, ConstTensorView& gather);
  // The tensor of that name, dtype and shape; remembers that it has a place.
  Status Find(const SafetensorsSpec& spec, ConstTensorView& tensor);
  Status FindFinite(const SafetensorsSpec& spec, ConstTensorView& tensor);
  Status CheckNothingLeft() const;
  // What an op's contract refuses in a file's tensor is a fault of the file.
  Status AsDataLoss(const std::string& name, const Status& status) const {
    return status.ok() ? status : Fail(name, status.message());
  }
  Status Fail(const std::string& name, const std::string& problem) const {
    return DataLoss(StrCat(weights_.path(), ": ", name, ": ", problem));
  }

  CheckpointConfig config_;
  SafetensorsFile weights_;
  Vocabulary vocabulary_;
  std::vector<NamedTemplate> chat_templates_;
  std::vector<CheckpointLayer> layers_;
  Int8Weights lm_head_;
  ConstTensorView embedding_;
  ConstTensorView final_norm_;
  std::set<std::string, std::less<>> known_;
};

template <typename T>
std::span<const T> ValuesOf(const ConstTensorView& tensor) {
  return {tensor.as<T>(), static_cast<size_t>(tensor.shape().num_elements())};
}

Result<std::unique_ptr<Checkpoint>> MappedCheckpoint::Open(const std::string& folder) {
  const auto path = [&](std::string_view file) { return StrCat(folder, "/", file); };
  COMET_ASSIGN_OR_RETURN(const std::string config_text,
                         ReadTextFile(path(kConfigFile), kConfigBytesMax));
  COMET_ASSIGN_OR_RETURN(CheckpointConfig config,
                         ParseCheckpointConfig(path(kConfigFile), config_text));
  COMET_ASSIGN_OR_RETURN(SafetensorsFile weights, SafetensorsFile::Open(path(kWeightsFile)));
  std::unique_ptr<MappedCheckpoint> checkpoint(
      new MappedCheckpoint(std::move(config), std::move(weights)));
  COMET_RETURN_IF_ERROR(checkpoint->ReadVocabularyFile(path(kTokenizerFile)));
  COMET_RETURN_IF_ERROR(checkpoint->ReadChatTemplates(folder));
  COMET_RETURN_IF_ERROR(checkpoint->ReadWeights());
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

Status MappedCheckpoint::ReadVocabularyFile(const std::string& path) {
  COMET_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path));
  COMET_ASSIGN_OR_RETURN(vocabulary_, ReadVocabulary(file));
  if (vocabulary_.pieces.size() != static_cast<size_t>(config_.model.vocab_size)) {
    return DataLoss(StrCat(path, ": tokenizer.ggml.tokens: has ", vocabulary_.pieces.size(),
                           " entries, expected vocab_size ", config_.model.vocab_size));
  }
  return Status::Ok();
}

Status MappedCheckpoint::ReadChatTemplates(const std::string& folder) {
  std::set<std::string> names;  // In an order that is the same everywhere.
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = TemplateNameOf(it->path().filename().string());
    if (!name.empty()) names.insert(name);
  }
  if (error) return Internal(StrCat(folder, ": cannot be listed: ", error.message()));
  if (names.size() > kNamedTemplatesMax) {
    return DataLoss(StrCat(folder, ": has ", names.size(), " chat templates, expected at most ",
                           kNamedTemplatesMax));
  }
  for (const std::string& name : names) {
    const std::string path = StrCat(folder, "/", TemplateFileOf(name));
    COMET_ASSIGN_OR_RETURN(std::string source, ReadTextFile(path, kTemplateBytesMax));
    const bool is_default = name == kDefaultTemplateName;
    chat_templates_.insert(is_default ? chat_templates_.begin() : chat_templates_.end(),
                           NamedTemplate{name, std::move(source)});
  }
  return Status::Ok();
}

Status MappedCheckpoint::ReadWeights() {
  const ModelTensors tensors = TensorsOfModel(config_.model);
  COMET_RETURN_IF_ERROR(FindFinite(tensors.final_norm, final_norm_));
  COMET_RETURN_IF_ERROR(Find(tensors.lm_head_codes, lm_head_.codes));
  COMET_RETURN_IF_ERROR(Find(tensors.lm_head_scale, lm_head_.scale));
  COMET_RETURN_IF_ERROR(AsDataLoss("lm_head", Validate(lm_head_)));
  if (tensors.embedding.has_value()) {
    COMET_RETURN_IF_ERROR(Find(*tensors.embedding, embedding_));
  }
  layers_.resize(static_cast<size_t>(config_.model.num_layers));
  for (int i = 0; i < config_.model.num_layers; ++i) {
    COMET_RETURN_IF_ERROR(ReadLayer(i, layers_[static_cast<size_t>(i)]));
  }
  return CheckNothingLeft();
}

Status MappedCheckpoint::ReadLayer(int layer_idx, CheckpointLayer& layer) {
  const LayerPrecision& precision = config_.layers[static_cast<size_t>(layer_idx)];
  const LayerTensors tensors = TensorsOfLayer(config_.model, config_.has_qkv_bias, layer_idx);
  COMET_RETURN_IF_ERROR(FindFinite(tensors.input_norm, layer.input_norm));
  COMET_RETURN_IF_ERROR(FindFinite(tensors.post_attention_norm, layer.post_attention_norm));
  COMET_RETURN_IF_ERROR(ReadLinear(tensors.qkv, precision.qkv, layer.qkv));
  COMET_RETURN_IF_ERROR(ReadLinear(tensors.o, precision.o, layer.o));
  COMET_RETURN_IF_ERROR(ReadLinear(tensors.gate_up, precision.gate_up, layer.gate_up));
  COMET_RETURN_IF_ERROR(ReadLinear(tensors.down, precision.down, layer.down));
  layer.kv = precision.kv;
  layer.qk_hadamard = precision.qk_hadamard;
  layer.down_hadamard = precision.down_hadamard;
  return Status::Ok();
}

Status MappedCheckpoint::ReadLinear(const LinearTensors& tensors, const LinearPrecision& precision,
                                    CheckpointLinear& linear) {
  W4axWeights& weights = linear.weights;
  COMET_RETURN_IF_ERROR(Find(tensors.codes, weights.codes));
  COMET_RETURN_IF_ERROR(Find(tensors.steps, weights.steps));
  COMET_RETURN_IF_ERROR(Find(tensors.scale, weights.scale));
  weights.num_int4_channels = precision.num_int4_channels;
  linear.clip = precision.clip;
  COMET_RETURN_IF_ERROR(AsDataLoss(tensors.name, Validate(weights)));
  if (tensors.bias.has_value()) COMET_RETURN_IF_ERROR(FindFinite(*tensors.bias, linear.bias));
  return tensors.gather.has_value() ? ReadGather(*tensors.gather, linear.gather) : Status::Ok();
}

Status MappedCheckpoint::ReadGather(const SafetensorsSpec& spec, ConstTensorView& gather) {
  COMET_RETURN_IF_ERROR(Find(spec, gather));
  const int num_channels = gather.dim(0);
  std::vector<bool> is_taken(static_cast<size_t>(num_channels));
  for (const int32_t channel : ValuesOf<int32_t>(gather)) {
    if (channel < 0 || channel >= num_channels || is_taken[static_cast<size_t>(channel)]) {
      return Fail(spec.name,
                  StrCat("holds ", channel, ", expected each of 0 to ", num_channels - 1, " once"));
    }
    is_taken[static_cast<size_t>(channel)] = true;
  }
  return Status::Ok();
}

Status MappedCheckpoint::Find(const SafetensorsSpec& spec, ConstTensorView& tensor) {
  COMET_ASSIGN_OR_RETURN(tensor, weights_.Find(spec.name, spec.dtype, spec.shape));
  known_.insert(spec.name);
  return Status::Ok();
}

Status MappedCheckpoint::FindFinite(const SafetensorsSpec& spec, ConstTensorView& tensor) {
  COMET_RETURN_IF_ERROR(Find(spec, tensor));
  for (const float value : ValuesOf<float>(tensor)) {
    if (!std::isfinite(value))
      return Fail(spec.name, StrCat("holds ", value, ", expected finite numbers"));
  }
  return Status::Ok();
}

// A tensor that nothing reads means that config.json describes another model.
Status MappedCheckpoint::CheckNothingLeft() const {
  for (const auto& [name, tensor] : weights_.tensors()) {
    if (!known_.contains(name))
      return Fail(name, "has no place in the model that config.json describes");
  }
  for (const auto& [name, dtype] : weights_.others()) {
    return Fail(name, StrCat("is ", dtype, ", which no tensor of a checkpoint is"));
  }
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& folder) {
  return MappedCheckpoint::Open(folder);
}

}  // namespace comet
