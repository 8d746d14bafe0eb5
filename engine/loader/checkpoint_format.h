#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/model/model_config.h"
#include "kernels/base/status.h"
#include "kernels/ops/kv_cache_view.h"

// What reader and writer of a comet checkpoint share: file names and config.json here, tensors in
// checkpoint_tensors.h. checkpoint_format.md describes the format.
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

std::string CheckpointConfigText(const CheckpointConfig& config);

// Every value is checked for type and range, and the shape for consistency. `where` begins the
// messages. Errors: kDataLoss; kUnimplemented for a later format version or another quant_method.
Result<CheckpointConfig> ParseCheckpointConfig(const std::string& where, std::string_view text);

}  // namespace comet
