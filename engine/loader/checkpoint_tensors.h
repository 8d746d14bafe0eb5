#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/loader/safetensors_writer.h"
#include "engine/model/model_config.h"

// The tensors of a checkpoint's weights file, for its reader and its writer.
namespace comet {

// Of a linear layer of N outputs and K inputs.
struct LinearTensors {
  std::string name;
  SafetensorsSpec codes;                  // [N, K / 2] u8
  SafetensorsSpec steps;                  // [N, CeilDiv(K, 128)] i8
  SafetensorsSpec scale;                  // [N] f32
  std::optional<SafetensorsSpec> gather;  // [K] i32; not of down_proj
  std::optional<SafetensorsSpec> bias;    // [N] f32; of qkv, where the model has one
};

struct LayerTensors {
  SafetensorsSpec input_norm;           // [hidden] f32
  SafetensorsSpec post_attention_norm;  // [hidden] f32
  LinearTensors qkv;
  LinearTensors o;
  LinearTensors gate_up;
  LinearTensors down;
};

struct ModelTensors {
  SafetensorsSpec final_norm;                // [hidden] f32
  SafetensorsSpec lm_head_codes;             // [vocab, hidden] i8
  SafetensorsSpec lm_head_scale;             // [vocab] f32
  std::optional<SafetensorsSpec> embedding;  // [vocab, hidden] f16; of untied models
};

LayerTensors TensorsOfLayer(const ModelConfig& model, bool has_qkv_bias, int layer_idx);
ModelTensors TensorsOfModel(const ModelConfig& model);  // All but the layers'.

// Every one.
std::vector<SafetensorsSpec> AllTensors(const ModelConfig& model, bool has_qkv_bias);

}  // namespace comet
