#include "engine/loader/checkpoint_writer.h"

#include "engine/loader/gguf_vocabulary.h"
#include "kernels/base/check.h"

namespace comet {
int64_t CheckpointWeightsBytes(const ModelConfig& config, bool has_qkv_bias) {
  int64_t num_bytes = 0;
  for (const SafetensorsSpec& spec : AllTensors(config, has_qkv_bias)) {
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
  COMET_ASSIGN_OR_RETURN(
      std::unique_ptr<SafetensorsWriter> weights,
      SafetensorsWriter::Create(partial->PathOf(kWeightsFile), AllTensors(config, has_qkv_bias)));
  CheckpointConfig checkpoint_config{.model = config, .has_qkv_bias = has_qkv_bias, .layers = {}};
  checkpoint_config.layers.resize(static_cast<size_t>(config.num_layers));
  return std::unique_ptr<CheckpointWriter>(
      new CheckpointWriter(std::move(partial), std::move(weights), std::move(checkpoint_config)));
}

Status CheckpointWriter::WriteLayer(int layer_idx, const QuantizedLayer& layer) {
  const LayerTensors tensors = TensorsOfLayer(config_.model, config_.has_qkv_bias, layer_idx);
  COMET_RETURN_IF_ERROR(weights_->Write(tensors.input_norm.name, layer.input_norm));
  COMET_RETURN_IF_ERROR(
      weights_->Write(tensors.post_attention_norm.name, layer.post_attention_norm));
  COMET_RETURN_IF_ERROR(WriteLinear(tensors.qkv, layer.qkv));
  COMET_RETURN_IF_ERROR(WriteLinear(tensors.o, layer.o));
  COMET_RETURN_IF_ERROR(WriteLinear(tensors.gate_up, layer.gate_up));
  COMET_RETURN_IF_ERROR(WriteLinear(tensors.down, layer.down));
  config_.layers[static_cast<size_t>(layer_idx)] = {
      layer.qkv.precision,  layer.o.precision, layer.gate_up.precision,
      layer.down.precision, layer.kv,          layer.qk_hadamard,
      layer.down_hadamard};
  return Status::Ok();
}

Status CheckpointWriter::WriteLinear(const LinearTensors& tensors, const QuantizedLinear& linear) {
  COMET_CHECK(tensors.gather.has_value() == !linear.gather.empty());
  COMET_CHECK(tensors.bias.has_value() == !linear.bias.empty());
  COMET_RETURN_IF_ERROR(weights_->Write(tensors.codes.name, linear.codes));
  COMET_RETURN_IF_ERROR(weights_->Write(tensors.steps.name, linear.steps));
  COMET_RETURN_IF_ERROR(weights_->Write(tensors.scale.name, linear.scale));
  if (tensors.gather.has_value()) {
    COMET_RETURN_IF_ERROR(weights_->Write(tensors.gather->name, linear.gather));
  }
  return tensors.bias.has_value() ? weights_->Write(tensors.bias->name, linear.bias) : Status::Ok();
}

Status CheckpointWriter::WriteFinalNorm(const std::vector<float>& weight) {
  return weights_->Write(TensorsOfModel(config_.model).final_norm.name, weight);
}

Status CheckpointWriter::WriteLmHead(const std::vector<int8_t>& codes,
                                     const std::vector<float>& scale) {
  const ModelTensors tensors = TensorsOfModel(config_.model);
  COMET_RETURN_IF_ERROR(weights_->Write(tensors.lm_head_codes.name, codes));
  return weights_->Write(tensors.lm_head_scale.name, scale);
}

Status CheckpointWriter::WriteEmbedding(const std::vector<Half>& table) {
  const ModelTensors tensors = TensorsOfModel(config_.model);
  COMET_CHECK_MSG(tensors.embedding.has_value(), "a tied model has no embedding of its own");
  return weights_->Write(tensors.embedding->name, table);
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
