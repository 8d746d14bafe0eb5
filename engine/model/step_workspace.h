#pragma once

#include <cstdint>

#include "engine/device/step_upload.h"
#include "engine/model/device_tensor.h"
#include "engine/model/model_config.h"
#include "engine/model/step_input.h"
#include "kernels/base/status.h"
#include "kernels/ops/kv_cache_view.h"
#include "kernels/ops/linear_input.h"

namespace comet {

struct WorkspaceLimits {
  int step_tokens_max = 0;
  int sequences_max = 0;
  int logits_rows_max = 0;
  int pages_per_sequence_max = 0;
  int64_t attention_scratch_bytes = 0;
};

// The activations of one step, allocated once for the largest; layers share them. All views are cut
// to the current step's tokens, which Begin() sets. Confined to the step thread.
class StepWorkspace {
 public:
  static Result<StepWorkspace> Create(Device& device, const ModelConfig& config,
                                      ActivationMode activations, const WorkspaceLimits& limits);

  // Starts the upload of the step's tokens and of where they belong. Padding needs a step whose
  // sequences are one token each, all of them with logits.
  Status Begin(const StepInput& step, const StepPadding& padding = {});

  int num_tokens() const { return batch_.num_tokens; }
  const BatchView& batch() const { return batch_; }
  ConstTensorView token_ids() const { return token_ids_; }      // [num_tokens] i32
  ConstTensorView logits_rows() const { return logits_rows_; }  // [num_logits_rows] i32

  TensorView hidden() const { return Cut(hidden_); }        // [num_tokens, hidden]: the residual
  TensorView qkv() const { return Cut(qkv_); }              // [num_tokens, qkv]
  TensorView queries() const;                               // The query part of qkv
  TensorView attention() const { return Cut(attention_); }  // [num_tokens, q]
  TensorView gate_up() const { return Cut(gate_up_); }      // [num_tokens, 2 ffn]
  TensorView attention_scratch() const { return attention_scratch_.view(); }
  // The one input buffer, in turn of every linear layer; `num_rows` defaults to the step's tokens.
  LinearInput Input(const ActivationFormat& format, int num_channels) const;
  LinearInput Input(const ActivationFormat& format, int num_channels, int num_rows) const;

  int64_t num_bytes() const;

 private:
  TensorView Cut(const DeviceTensor& tensor) const {
    return tensor.view().Rows(0, batch_.num_tokens);
  }

  struct StepSize;
  StepSize CheckSize(const StepInput& step, const StepPadding& padding) const;
  void PutPages(const StepInput& step, const StepSize& size, int padding_page_id);

  WorkspaceLimits limits_;
  int q_size_ = 0;
  DeviceTensor hidden_;
  DeviceTensor qkv_;
  DeviceTensor attention_;
  DeviceTensor gate_up_;
  DeviceTensor input_;              // Codes or values of the widest layer.
  DeviceTensor input_scalars_;      // [4, step_tokens_max]: scale, exponent, 2 of code_sum
  DeviceTensor attention_scratch_;  // u8; absent where the ops use none.
  StepUpload upload_;
  ConstTensorView token_ids_;
  ConstTensorView logits_rows_;
  BatchView batch_;
};

}  // namespace comet
