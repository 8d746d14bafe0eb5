#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/chat_template/named_templates.h"
#include "engine/model/model_config.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/kv_cache_view.h"
#include "kernels/ops/linear.h"

namespace comet {

// One quantised linear layer. The views point into the mapped file.
struct CheckpointLinear {
  W4axWeights weights;
  ConstTensorView bias;    // [N] f32, optional
  ConstTensorView gather;  // [K] i32: channel j of the layer is channel gather[j] of its producer;
                           // absent for down_proj, whose order is folded into gate and up
  float clip = 1.0f;       // Activation clip alpha, used in the mixed mode.
};

struct CheckpointLayer {
  ConstTensorView input_norm;           // [hidden] f32
  ConstTensorView post_attention_norm;  // [hidden] f32
  CheckpointLinear qkv;
  CheckpointLinear o;
  CheckpointLinear gate_up;
  CheckpointLinear down;
  KvFormat kv;
  bool qk_hadamard = false;
  bool down_hadamard = false;  // See LayerPrecision.
};

// A comet checkpoint: config.json, model.safetensors, tokenizer.gguf (metadata only),
// accuracy.json and chat templates in one folder. Mapped, every offset, shape and dtype
// checked at Open(). Immutable.
class Checkpoint {
 public:
  // Errors: kNotFound, kDataLoss (file, field, got, expected), kUnimplemented (a later format
  // version).
  static Result<std::unique_ptr<Checkpoint>> Open(const std::string& folder);
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
  virtual const std::vector<NamedTemplate>& chat_templates() const = 0;  // Empty: none.
  virtual const CheckpointLayer& layer(int layer_idx) const = 0;
  virtual const Int8Weights& lm_head() const = 0;  // The embedding's too, when tied.
  virtual ConstTensorView embedding() const = 0;   // [vocab, hidden] f16; absent when tied
  virtual ConstTensorView final_norm() const = 0;  // [hidden] f32
  virtual int64_t num_bytes() const = 0;           // Of the weights file.
};

}  // namespace comet
