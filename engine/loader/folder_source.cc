#include "engine/loader/folder_source.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include "engine/loader/float_layer_reader.h"
#include "engine/loader/folder_config.h"
#include "engine/loader/folder_weights.h"
#include "engine/loader/packed_matrix.h"
#include "engine/loader/text_files.h"
#include "kernels/base/check.h"
#include "kernels/base/float_element.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr std::string_view kEmbedding = "model.embed_tokens";
constexpr std::string_view kFinalNorm = "model.norm";
constexpr std::string_view kLmHead = "lm_head";

LayerNames NamesOf(int layer_idx) {
  const std::string layer = StrCat("model.layers.", layer_idx, ".");
  return {.input_norm = layer + "input_layernorm",
          .q = layer + "self_attn.q_proj",
          .k = layer + "self_attn.k_proj",
          .v = layer + "self_attn.v_proj",
          .o = layer + "self_attn.o_proj",
          .post_attention_norm = layer + "post_attention_layernorm",
          .gate = layer + "mlp.gate_proj",
          .up = layer + "mlp.up_proj",
          .down = layer + "mlp.down_proj"};
}

// Buffers that old files hold, and that follow from config.json.
bool IsDerived(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

class FolderSource final : public FloatSource {
 public:
  FolderSource(FolderConfig config, FolderWeights weights)
      : config_(std::move(config)), weights_(std::move(weights)) {}

  // Finds every tensor, and refuses those that are left.
  Status FindTensors();
  Status ReadText(const std::string& folder);

  const ModelConfig& config() const override { return config_.model; }
  const Vocabulary& vocabulary() const override { return text_.vocabulary; }
  const std::vector<NamedTemplate>& chat_templates() const override { return text_.chat_templates; }

  Result<FloatLayer> ReadLayer(int layer_idx) override;
  Result<std::vector<float>> ReadEmbedding() override;
  Result<std::vector<float>> ReadFinalNorm() override;
  Result<std::vector<float>> ReadLmHead() override;

 private:
  Status FindLayer(int layer_idx);
  Status FindVector(const std::string& name, int size);
  Status FindMatrix(const std::string& name, int num_outputs, int num_inputs);
  Status FindBias(const std::string& name, int size);
  Status CheckLeftOver(const std::string& name, const FolderTensor& tensor) const;
  Status ReadTensor(const std::string& name, std::span<float> out) const;
  Result<std::vector<float>> ReadTable(std::string_view name) const;

  FolderConfig config_;
  FolderWeights weights_;
  TextFiles text_;
  TensorNames known_;
  std::map<std::string, ConstTensorView, std::less<>> plain_;  // NAME.weight, NAME.bias
  std::map<std::string, PackedMatrix, std::less<>> packed_;    // NAME.weight
};

Status FolderSource::FindTensors() {
  const ModelConfig& model = config_.model;
  COMET_RETURN_IF_ERROR(FindMatrix(std::string(kEmbedding), model.vocab_size, model.hidden_size));
  COMET_RETURN_IF_ERROR(FindVector(StrCat(kFinalNorm, ".weight"), model.hidden_size));
  const std::string head(kLmHead);
  if (!model.tied_embeddings) {
    COMET_RETURN_IF_ERROR(FindMatrix(head, model.vocab_size, model.hidden_size));
  } else if (weights_.Find(head + ".weight") != nullptr) {
    // Some writers store the head of a tied model too; it is the embedding.
    COMET_RETURN_IF_ERROR(FindFolderTensor(weights_, head + ".weight", kFloatDTypes,
                                           {model.vocab_size, model.hidden_size}, known_)
                              .status());
  }
  for (int i = 0; i < model.num_layers; ++i) COMET_RETURN_IF_ERROR(FindLayer(i));
  for (const auto& [name, tensor] : weights_.tensors()) {
    if (!known_.contains(name)) COMET_RETURN_IF_ERROR(CheckLeftOver(name, tensor));
  }
  return Status::Ok();
}

Status FolderSource::FindLayer(int layer_idx) {
  const ModelConfig& model = config_.model;
  const LayerNames names = NamesOf(layer_idx);
  const int hidden = model.hidden_size;
  COMET_RETURN_IF_ERROR(FindVector(names.input_norm + ".weight", hidden));
  COMET_RETURN_IF_ERROR(FindVector(names.post_attention_norm + ".weight", hidden));
  COMET_RETURN_IF_ERROR(FindMatrix(names.q, model.q_size(), hidden));
  COMET_RETURN_IF_ERROR(FindMatrix(names.k, model.kv_size(), hidden));
  COMET_RETURN_IF_ERROR(FindMatrix(names.v, model.kv_size(), hidden));
  COMET_RETURN_IF_ERROR(FindMatrix(names.o, hidden, model.q_size()));
  COMET_RETURN_IF_ERROR(FindMatrix(names.gate, model.ffn_size, hidden));
  COMET_RETURN_IF_ERROR(FindMatrix(names.up, model.ffn_size, hidden));
  COMET_RETURN_IF_ERROR(FindMatrix(names.down, hidden, model.ffn_size));
  if (!config_.has_qkv_bias) return Status::Ok();
  COMET_RETURN_IF_ERROR(FindVector(names.q + ".bias", model.q_size()));
  COMET_RETURN_IF_ERROR(FindVector(names.k + ".bias", model.kv_size()));
  return FindVector(names.v + ".bias", model.kv_size());
}

Status FolderSource::FindVector(const std::string& name, int size) {
  COMET_ASSIGN_OR_RETURN(plain_[name],
                         FindFolderTensor(weights_, name, kFloatDTypes, {size}, known_));
  return Status::Ok();
}

// A packed folder leaves some layers plain: which, their tensors say.
Status FolderSource::FindMatrix(const std::string& name, int num_outputs, int num_inputs) {
  const std::string weight = name + ".weight";
  const bool is_packed =
      config_.packed.method != PackedMethod::kNone && weights_.Find(weight) == nullptr;
  if (!is_packed) {
    COMET_ASSIGN_OR_RETURN(plain_[weight], FindFolderTensor(weights_, weight, kFloatDTypes,
                                                            {num_outputs, num_inputs}, known_));
    return Status::Ok();
  }
  COMET_ASSIGN_OR_RETURN(PackedMatrix matrix, PackedMatrix::Find(weights_, name, config_.packed,
                                                                 num_outputs, num_inputs, known_));
  packed_.emplace(weight, std::move(matrix));
  return Status::Ok();
}

// GPTQ's packers give every layer a bias, zeros where the model has none.
Status FolderSource::CheckLeftOver(const std::string& name, const FolderTensor& tensor) const {
  if (IsDerived(name)) return Status::Ok();
  const auto is_zero = [&] {
    const ConstTensorView& view = tensor.view;
    if (!view.is_present() || std::ranges::find(kFloatDTypes, view.dtype()) == kFloatDTypes.end()) {
      return false;
    }
    for (int64_t i = 0; i < view.shape().num_elements(); ++i) {
      if (FloatAt(view, i) != 0.0f) return false;
    }
    return true;
  };
  if (config_.packed.method == PackedMethod::kGptq && name.ends_with(".bias") && is_zero()) {
    return Status::Ok();
  }
  return Unimplemented(StrCat(tensor.file->path(), ": ", name, ": has no place in a ",
                              config_.architecture, " decoder of ", config_.model.num_layers,
                              " layers"));
}

Status FolderSource::ReadText(const std::string& folder) {
  COMET_ASSIGN_OR_RETURN(text_, ReadTextFiles(folder, config_.model.vocab_size));
  ModelConfig& model = config_.model;
  model.bos_id = text_.vocabulary.bos_id;
  for (const int id : text_.eos_ids) {
    if (std::ranges::find(model.eos_ids, id) == model.eos_ids.end()) model.eos_ids.push_back(id);
  }
  const Status valid = model.Validate();
  return valid.ok() ? valid : DataLoss(StrCat(folder, ": ", valid.message()));
}

Result<FloatLayer> FolderSource::ReadLayer(int layer_idx) {
  COMET_CHECK(layer_idx >= 0 && layer_idx < config_.model.num_layers);
  return ReadFloatLayer(
      config_.model, NamesOf(layer_idx), config_.has_qkv_bias,
      [this](const std::string& name, std::string_view suffix, std::span<float> out) {
        return ReadTensor(StrCat(name, suffix), out);
      });
}

Result<std::vector<float>> FolderSource::ReadEmbedding() { return ReadTable(kEmbedding); }

Result<std::vector<float>> FolderSource::ReadFinalNorm() {
  std::vector<float> values(static_cast<size_t>(config_.model.hidden_size));
  COMET_RETURN_IF_ERROR(ReadTensor(StrCat(kFinalNorm, ".weight"), values));
  return values;
}

Result<std::vector<float>> FolderSource::ReadLmHead() {
  if (!config_.model.tied_embeddings) return ReadTable(kLmHead);
  return NotFound(
      StrCat(weights_.path(), ": lm_head.weight: is tied, the embedding is the LM head"));
}

Result<std::vector<float>> FolderSource::ReadTable(std::string_view name) const {
  std::vector<float> values(static_cast<size_t>(config_.model.vocab_size) *
                            static_cast<size_t>(config_.model.hidden_size));
  COMET_RETURN_IF_ERROR(ReadTensor(StrCat(name, ".weight"), values));
  return values;
}

// FindTensors() has found the tensor and its shape.
Status FolderSource::ReadTensor(const std::string& name, std::span<float> out) const {
  const auto packed = packed_.find(name);
  if (packed != packed_.end()) {
    COMET_RETURN_IF_ERROR(packed->second.Dequantize(out));
  } else {
    const ConstTensorView& tensor = plain_.at(name);
    for (size_t i = 0; i < out.size(); ++i) out[i] = FloatAt(tensor, static_cast<int64_t>(i));
  }
  return CheckFinite(StrCat(weights_.path(), ": ", name), out);
}

}  // namespace

Result<std::unique_ptr<FloatSource>> OpenFolderSource(const std::string& folder) {
  COMET_ASSIGN_OR_RETURN(FolderConfig config, ReadFolderConfig(folder));
  COMET_ASSIGN_OR_RETURN(FolderWeights weights, FolderWeights::Open(folder));
  auto source = std::make_unique<FolderSource>(std::move(config), std::move(weights));
  COMET_RETURN_IF_ERROR(source->FindTensors());
  COMET_RETURN_IF_ERROR(source->ReadText(folder));
  return std::unique_ptr<FloatSource>(std::move(source));
}

}  // namespace comet
