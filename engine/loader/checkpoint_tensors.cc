#include "engine/loader/checkpoint_tensors.h"

#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

struct LinearShape {
  int num_outputs;
  int num_inputs;
};

LinearTensors TensorsOfLinear(const std::string& name, const LinearShape& shape) {
  const auto [n, k] = shape;
  return {.name = name,
          .codes = {name + ".weight_codes", DType::kU8, {n, k / 2}},
          .steps = {name + ".weight_steps", DType::kI8, {n, CeilDiv(k, kBlockChannels)}},
          .scale = {name + ".weight_scale", DType::kF32, {n}},
          .gather = SafetensorsSpec{name + ".gather", DType::kI32, {k}},
          .bias = std::nullopt};
}

void Append(const LinearTensors& linear, std::vector<SafetensorsSpec>& all) {
  all.insert(all.end(), {linear.codes, linear.steps, linear.scale});
  if (linear.gather.has_value()) all.push_back(*linear.gather);
  if (linear.bias.has_value()) all.push_back(*linear.bias);
}

}  // namespace

LayerTensors TensorsOfLayer(const ModelConfig& model, bool has_qkv_bias, int layer_idx) {
  const std::string layer = StrCat("model.layers.", layer_idx, ".");
  const int hidden = model.hidden_size;
  LayerTensors tensors{
      .input_norm = {layer + "input_layernorm.weight", DType::kF32, {hidden}},
      .post_attention_norm = {layer + "post_attention_layernorm.weight", DType::kF32, {hidden}},
      .qkv = TensorsOfLinear(layer + "self_attn.qkv_proj", {model.qkv_size(), hidden}),
      .o = TensorsOfLinear(layer + "self_attn.o_proj", {hidden, model.q_size()}),
      .gate_up = TensorsOfLinear(layer + "mlp.gate_up_proj", {2 * model.ffn_size, hidden}),
      .down = TensorsOfLinear(layer + "mlp.down_proj", {hidden, model.ffn_size})};
  tensors.down.gather.reset();
  if (has_qkv_bias) {
    tensors.qkv.bias = {tensors.qkv.name + ".bias", DType::kF32, {model.qkv_size()}};
  }
  return tensors;
}

ModelTensors TensorsOfModel(const ModelConfig& model) {
  const int hidden = model.hidden_size;
  const int vocab = model.vocab_size;
  ModelTensors tensors{.final_norm = {"model.norm.weight", DType::kF32, {hidden}},
                       .lm_head_codes = {"lm_head.weight_codes", DType::kI8, {vocab, hidden}},
                       .lm_head_scale = {"lm_head.weight_scale", DType::kF32, {vocab}},
                       .embedding = std::nullopt};
  if (!model.tied_embeddings) {
    tensors.embedding = {"model.embed_tokens.weight", DType::kF16, {vocab, hidden}};
  }
  return tensors;
}

std::vector<SafetensorsSpec> AllTensors(const ModelConfig& model, bool has_qkv_bias) {
  const ModelTensors tensors = TensorsOfModel(model);
  std::vector<SafetensorsSpec> all = {tensors.final_norm, tensors.lm_head_codes,
                                      tensors.lm_head_scale};
  if (tensors.embedding.has_value()) all.push_back(*tensors.embedding);
  for (int i = 0; i < model.num_layers; ++i) {
    const LayerTensors layer = TensorsOfLayer(model, has_qkv_bias, i);
    all.insert(all.end(), {layer.input_norm, layer.post_attention_norm});
    for (const LinearTensors* linear : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      Append(*linear, all);
    }
  }
  return all;
}

}  // namespace comet
