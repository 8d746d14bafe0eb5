#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/model/model_config.h"
#include "kernels/base/status.h"
#include "kernels/ops/kv_cache_view.h"

// What reader and writer of a comet checkpoint share: file and tensor names, and config.json.
// README.md describes the format.
namespace comet {

inline constexpr int kCheckpointFormatVersion = 1;

inline constexpr std::string_view kConfigFile = "config.json";
inline constexpr std::string_view kWeightsFile = "model.safetensors";
inline constexpr std::string_view kTokenizerFile = "tokenizer.gguf";
inline constexpr std::string_view kAccuracyFile = "accuracy.json";

// "chat_template.jinja" for "default", else "chat_template.NAME.jinja".
std::string TemplateFileOf(std::string_view template_name);
// The other way round; empty for a file that holds no template.
std::string TemplateNameOf(std::string_view file_name);

inline constexpr std::string_view kFinalNormName = "model.norm.weight";
inline constexpr std::string_view kEmbeddingName = "model.embed_tokens.weight";
inline constexpr std::string_view kLmHeadCodesName = "lm_head.weight_codes";
inline constexpr std::string_view kLmHeadScaleName = "lm_head.weight_scale";

// One quantised linear layer of the precision map.
struct LinearPrecision {
  int num_int4_channels = 0;
  float clip = 1.0f;
};

struct LayerPrecision {
  LinearPrecision qkv;
  LinearPrecision o;
  LinearPrecision gate_up;
  LinearPrecision down;
  KvFormat kv;
  bool qk_hadamard = false;    // Of queries and keys, after their rotation by position.
  bool down_hadamard = false;  // Of each block of down_proj's INT4 region (SiluMulArgs).
};

// Everything config.json says.
struct CheckpointConfig {
  ModelConfig model;
  bool has_qkv_bias = false;
  std::vector<LayerPrecision> layers;
};

// "model.layers.3." and the four linears' names after it.
std::string LayerName(int layer_idx);
inline constexpr std::string_view kQkvName = "self_attn.qkv_proj";
inline constexpr std::string_view kOName = "self_attn.o_proj";
inline constexpr std::string_view kGateUpName = "mlp.gate_up_proj";
inline constexpr std::string_view kDownName = "mlp.down_proj";
inline constexpr std::string_view kInputNormName = "input_layernorm.weight";
inline constexpr std::string_view kPostAttentionNormName = "post_attention_layernorm.weight";

std::string CheckpointConfigText(const CheckpointConfig& config);

// Every value is checked for type and range, and the shape for consistency. `where` begins the
// messages. Errors: kDataLoss; kUnimplemented for a later format version or another quant_method.
Result<CheckpointConfig> ParseCheckpointConfig(const std::string& where, std::string_view text);

}  // namespace comet
