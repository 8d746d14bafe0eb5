#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/chat_template/named_templates.h"
#include "engine/model/model_config.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// Weights of one decoder layer, fp32, row-major [outputs, inputs], channels in their original
// order. Rotary channels are in Hugging Face's split-half order whatever the file had.
struct FloatLayer {
  std::vector<float> input_norm;           // [hidden]
  std::vector<float> qkv;                  // [q_size + 2 kv_size, hidden]: q | k | v
  std::vector<float> qkv_bias;             // [q_size + 2 kv_size] or empty
  std::vector<float> o;                    // [hidden, q_size]
  std::vector<float> post_attention_norm;  // [hidden]
  std::vector<float> gate_up;              // [2 ffn, hidden]: gate | up
  std::vector<float> down;                 // [hidden, ffn]
};

// An unquantised checkpoint, or another's quantised one as its values, read one layer at a time.
// Confined to one thread.
class FloatSource {
 public:
  virtual ~FloatSource() = default;

  // A Hugging Face folder or a GGUF file. Errors: kNotFound; kDataLoss with file, field, got and
  // expected; kUnimplemented naming what this program has no code for, or a pickle file.
  static Result<std::unique_ptr<FloatSource>> Open(const std::string& path);

  // Refuses by its name a file that cannot be GGUF. Errors: kUnimplemented of a pickle's name;
  // kInvalidArgument of a single safetensors file's.
  static Status CheckFileName(const std::string& path);

  virtual const ModelConfig& config() const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
  virtual const std::vector<NamedTemplate>& chat_templates() const = 0;  // Empty: none.

  virtual Result<FloatLayer> ReadLayer(int layer_idx) = 0;
  virtual Result<std::vector<float>> ReadEmbedding() = 0;  // [vocab, hidden]
  virtual Result<std::vector<float>> ReadFinalNorm() = 0;  // [hidden]
  virtual Result<std::vector<float>> ReadLmHead() = 0;     // [vocab, hidden]; kNotFound when tied
};

}  // namespace comet
