#include "engine/loader/checkpoint.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>

#include "engine/loader/checkpoint_format.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "engine/loader/mapped_file.h"
#include "engine/loader/safetensors_file.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kConfigBytesMax = 16 << 20;
constexpr int64_t kChatTemplateBytesMax = 4 << 20;

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

  struct LinearShape {
    int num_outputs;
    int num_inputs;
    bool has_gather;
    bool has_bias;
  };

  Status ReadVocabularyFile(const std::string& path);
  Status ReadChatTemplates(const std::string& folder);
  Status ReadWeights();
  Status ReadLayer(int layer_idx, CheckpointLayer& layer);
  Status ReadLinear(const std::string& name, const LinearShape& shape,
                    const LinearPrecision& precision, CheckpointLinear& linear);
  // The tensor of that name, dtype and shape; remembers that it has a place.
  Status Find(const std::string& name, DType dtype, std::initializer_list<int> dims,
              ConstTensorView& tensor);
  Status FindFinite(const std::string& name, int num_values, ConstTensorView& tensor);
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
    COMET_ASSIGN_OR_RETURN(std::string source, ReadTextFile(path, kChatTemplateBytesMax));
    const bool is_default = name == kDefaultTemplateName;
    chat_templates_.insert(is_default ? chat_templates_.begin() : chat_templates_.end(),
                           NamedTemplate{name, std::move(source)});
  }
  return Status::Ok();
}

Status MappedCheckpoint::ReadWeights() {
  const ModelConfig& model = config_.model;
  COMET_RETURN_IF_ERROR(FindFinite(std::string(kFinalNormName), model.hidden_size, final_norm_));
  COMET_RETURN_IF_ERROR(Find(std::string(kLmHeadCodesName), DType::kI8,
                             {model.vocab_size, model.hidden_size}, lm_head_.codes));
  COMET_RETURN_IF_ERROR(
      Find(std::string(kLmHeadScaleName), DType::kF32, {model.vocab_size}, lm_head_.scale));
  COMET_RETURN_IF_ERROR(AsDataLoss("lm_head", Validate(lm_head_)));
  if (!model.tied_embeddings) {
    COMET_RETURN_IF_ERROR(Find(std::string(kEmbeddingName), DType::kF16,
                               {model.vocab_size, model.hidden_size}, embedding_));
  }
  layers_.resize(static_cast<size_t>(model.num_layers));
  for (int i = 0; i < model.num_layers; ++i) {
    COMET_RETURN_IF_ERROR(ReadLayer(i, layers_[static_cast<size_t>(i)]));
  }
  return CheckNothingLeft();
}

Status MappedCheckpoint::ReadLayer(int layer_idx, CheckpointLayer& layer) {
  const ModelConfig& model = config_.model;
  const LayerPrecision& precision = config_.layers[static_cast<size_t>(layer_idx)];
  const std::string name = LayerName(layer_idx);
  const int hidden = model.hidden_size;
  COMET_RETURN_IF_ERROR(FindFinite(StrCat(name, kInputNormName), hidden, layer.input_norm));
  COMET_RETURN_IF_ERROR(
      FindFinite(StrCat(name, kPostAttentionNormName), hidden, layer.post_attention_norm));
  COMET_RETURN_IF_ERROR(ReadLinear(StrCat(name, kQkvName),
                                   {model.qkv_size(), hidden, true, config_.has_qkv_bias},
                                   precision.qkv, layer.qkv));
  COMET_RETURN_IF_ERROR(ReadLinear(StrCat(name, kOName), {hidden, model.q_size(), true, false},
                                   precision.o, layer.o));
  COMET_RETURN_IF_ERROR(ReadLinear(StrCat(name, kGateUpName),
                                   {2 * model.ffn_size, hidden, true, false}, precision.gate_up,
                                   layer.gate_up));
  COMET_RETURN_IF_ERROR(ReadLinear(StrCat(name, kDownName), {hidden, model.ffn_size, false, false},
                                   precision.down, layer.down));
  layer.kv = precision.kv;
  layer.qk_hadamard = precision.qk_hadamard;
  layer.down_hadamard = precision.down_hadamard;
  return Status::Ok();
}

Status MappedCheckpoint::ReadLinear(const std::string& name, const LinearShape& shape,
                                    const LinearPrecision& precision, CheckpointLinear& linear) {
  const int n = shape.num_outputs;
  const int k = shape.num_inputs;
  W4axWeights& weights = linear.weights;
  COMET_RETURN_IF_ERROR(Find(name + ".weight_codes", DType::kU8, {n, k / 2}, weights.codes));
  COMET_RETURN_IF_ERROR(
      Find(name + ".weight_steps", DType::kI8, {n, CeilDiv(k, kBlockChannels)}, weights.steps));
  COMET_RETURN_IF_ERROR(Find(name + ".weight_scale", DType::kF32, {n}, weights.scale));
  weights.num_int4_channels = precision.num_int4_channels;
  linear.clip = precision.clip;
  COMET_RETURN_IF_ERROR(AsDataLoss(name, Validate(weights)));
  if (shape.has_bias) COMET_RETURN_IF_ERROR(FindFinite(name + ".bias", n, linear.bias));
  if (!shape.has_gather) return Status::Ok();
  COMET_RETURN_IF_ERROR(Find(name + ".gather", DType::kI32, {k}, linear.gather));
  std::vector<bool> is_taken(static_cast<size_t>(k));
  for (const int32_t channel : ValuesOf<int32_t>(linear.gather)) {
    if (channel < 0 || channel >= k || is_taken[static_cast<size_t>(channel)]) {
      return Fail(name + ".gather",
                  StrCat("holds ", channel, ", expected each of 0 to ", k - 1, " once"));
    }
    is_taken[static_cast<size_t>(channel)] = true;
  }
  return Status::Ok();
}

Status MappedCheckpoint::Find(const std::string& name, DType dtype, std::initializer_list<int> dims,
                              ConstTensorView& tensor) {
  COMET_ASSIGN_OR_RETURN(tensor, weights_.Find(name, dtype, dims));
  known_.insert(name);
  return Status::Ok();
}

Status MappedCheckpoint::FindFinite(const std::string& name, int num_values,
                                    ConstTensorView& tensor) {
  COMET_RETURN_IF_ERROR(Find(name, DType::kF32, {num_values}, tensor));
  for (const float value : ValuesOf<float>(tensor)) {
    if (!std::isfinite(value))
      return Fail(name, StrCat("holds ", value, ", expected finite numbers"));
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
