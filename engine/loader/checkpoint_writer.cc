#include "engine/loader/checkpoint_writer.h"

#include "engine/loader/gguf_vocabulary.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

// Tensors to declare of one linear layer.
struct LinearShape {
  int num_outputs;
  int num_inputs;
  bool has_gather;
  bool has_bias;
};

void DeclareLinear(const std::string& name, const LinearShape& shape,
                   std::vector<SafetensorsSpec>& specs) {
  const int n = shape.num_outputs;
  const int k = shape.num_inputs;
  specs.push_back({name + ".weight_codes", DType::kU8, {n, k / 2}});
  specs.push_back({name + ".weight_steps", DType::kI8, {n, CeilDiv(k, kBlockChannels)}});
  specs.push_back({name + ".weight_scale", DType::kF32, {n}});
  if (shape.has_gather) specs.push_back({name + ".gather", DType::kI32, {k}});
  if (shape.has_bias) specs.push_back({name + ".bias", DType::kF32, {n}});
}

std::vector<SafetensorsSpec> DeclareTensors(const ModelConfig& model, bool has_qkv_bias) {
  const int hidden = model.hidden_size;
  std::vector<SafetensorsSpec> specs;
  specs.push_back({std::string(kFinalNormName), DType::kF32, {hidden}});
  specs.push_back({std::string(kLmHeadCodesName), DType::kI8, {model.vocab_size, hidden}});
  specs.push_back({std::string(kLmHeadScaleName), DType::kF32, {model.vocab_size}});
  if (!model.tied_embeddings) {
    specs.push_back({std::string(kEmbeddingName), DType::kF16, {model.vocab_size, hidden}});
  }
  for (int i = 0; i < model.num_layers; ++i) {
    const std::string layer = LayerName(i);
    specs.push_back({StrCat(layer, kInputNormName), DType::kF32, {hidden}});
    specs.push_back({StrCat(layer, kPostAttentionNormName), DType::kF32, {hidden}});
    DeclareLinear(StrCat(layer, kQkvName), {model.qkv_size(), hidden, true, has_qkv_bias}, specs);
    DeclareLinear(StrCat(layer, kOName), {hidden, model.q_size(), true, false}, specs);
    DeclareLinear(StrCat(layer, kGateUpName), {2 * model.ffn_size, hidden, true, false}, specs);
    DeclareLinear(StrCat(layer, kDownName), {hidden, model.ffn_size, false, false}, specs);
  }
  return specs;
}

}  // namespace

int64_t CheckpointWeightsBytes(const ModelConfig& config, bool has_qkv_bias) {
  int64_t num_bytes = 0;
  for (const SafetensorsSpec& spec : DeclareTensors(config, has_qkv_bias)) {
    num_bytes += spec.shape.num_elements() * BytesOf(spec.dtype);
  }
  return num_bytes;
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(const std::string& folder,
                                                                   const ModelConfig& config,
                                                                   bool has_qkv_bias,
                                                                   bool may_replace) {
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<PartialFolder> partial,
                         PartialFolder::Create(folder, may_replace));
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsWriter> weights,
                         SafetensorsWriter::Create(partial->PathOf(kWeightsFile),
                                                   DeclareTensors(config, has_qkv_bias)));
  CheckpointConfig checkpoint_config{.model = config, .has_qkv_bias = has_qkv_bias, .layers = {}};
  checkpoint_config.layers.resize(static_cast<size_t>(config.num_layers));
  return std::unique_ptr<CheckpointWriter>(
      new CheckpointWriter(std::move(partial), std::move(weights), std::move(checkpoint_config)));
}

Status CheckpointWriter::WriteLayer(int layer_idx, const QuantizedLayer& layer) {
  const std::string name = LayerName(layer_idx);
  COMET_RETURN_IF_ERROR(weights_->Write(StrCat(name, kInputNormName), layer.input_norm));
  COMET_RETURN_IF_ERROR(
      weights_->Write(StrCat(name, kPostAttentionNormName), layer.post_attention_norm));
  COMET_RETURN_IF_ERROR(WriteLinear(StrCat(name, kQkvName), layer.qkv));
  COMET_RETURN_IF_ERROR(WriteLinear(StrCat(name, kOName), layer.o));
  COMET_RETURN_IF_ERROR(WriteLinear(StrCat(name, kGateUpName), layer.gate_up));
  COMET_RETURN_IF_ERROR(WriteLinear(StrCat(name, kDownName), layer.down));
  config_.layers[static_cast<size_t>(layer_idx)] = {
      layer.qkv.precision,  layer.o.precision, layer.gate_up.precision,
      layer.down.precision, layer.kv,          layer.qk_hadamard,
      layer.down_hadamard};
  return Status::Ok();
}

Status CheckpointWriter::WriteLinear(const std::string& name, const QuantizedLinear& linear) {
  COMET_RETURN_IF_ERROR(weights_->Write(name + ".weight_codes", linear.codes));
  COMET_RETURN_IF_ERROR(weights_->Write(name + ".weight_steps", linear.steps));
  COMET_RETURN_IF_ERROR(weights_->Write(name + ".weight_scale", linear.scale));
  if (!linear.gather.empty()) {
    COMET_RETURN_IF_ERROR(weights_->Write(name + ".gather", linear.gather));
  }
  if (!linear.bias.empty()) COMET_RETURN_IF_ERROR(weights_->Write(name + ".bias", linear.bias));
  return Status::Ok();
}

Status CheckpointWriter::WriteFinalNorm(const std::vector<float>& weight) {
  return weights_->Write(kFinalNormName, weight);
}

Status CheckpointWriter::WriteLmHead(const std::vector<int8_t>& codes,
                                     const std::vector<float>& scale) {
  COMET_RETURN_IF_ERROR(weights_->Write(kLmHeadCodesName, codes));
  return weights_->Write(kLmHeadScaleName, scale);
}

Status CheckpointWriter::WriteEmbedding(const std::vector<Half>& table) {
  return weights_->Write(kEmbeddingName, table);
}

Result<std::string> CheckpointWriter::Seal(const Vocabulary& vocabulary,
                                           const std::vector<NamedTemplate>& chat_templates) {
  COMET_RETURN_IF_ERROR(weights_->Finish());
  COMET_RETURN_IF_ERROR(folder_->WriteFile(kConfigFile, CheckpointConfigText(config_)));
  COMET_RETURN_IF_ERROR(folder_->WriteFile(kTokenizerFile, VocabularyGguf(vocabulary)));
  for (const NamedTemplate& one : chat_templates) {
    COMET_RETURN_IF_ERROR(folder_->WriteFile(TemplateFileOf(one.name), one.source));
  }
  folder_->Keep();
  return folder_->path();
}

Status CheckpointWriter::Publish(std::string_view accuracy) {
  COMET_RETURN_IF_ERROR(folder_->WriteFile(kAccuracyFile, accuracy));
  return folder_->Publish();
}

Status CheckpointWriter::Finish(const Vocabulary& vocabulary,
                                const std::vector<NamedTemplate>& chat_templates,
                                std::string_view accuracy) {
  COMET_RETURN_IF_ERROR(Seal(vocabulary, chat_templates).status());
  return Publish(accuracy);
}

}  // namespace comet
