#pragma once

#include <memory>

#include "engine/model/decoder_layer.h"
#include "engine/model/device_tensor.h"
#include "engine/model/model_config.h"
#include "engine/model/precision.h"
#include "engine/model/step_workspace.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// Runs single decoder layers over windows of tokens that start at position 0, outside a Model: how
// the quantiser walks a network in bounded memory, one layer's weights at a time. Confined to one
// thread; the backend outlives it.
class LayerRunner {
 public:
  // `precision` is that of the layers to be run.
  static Result<LayerRunner> Create(Backend& backend, const ModelConfig& config,
                                    const Precision& precision, int window_tokens_max);

  // hidden [num_tokens, hidden_size], contiguous device memory in the workspace's dtype (f32 for
  // float activations, f16 otherwise), is replaced by the layer's output.
  Status Run(const DecoderLayer& layer, TensorView hidden);

 private:
  Backend* backend_ = nullptr;
  ModelConfig config_;
  StepWorkspace workspace_;
  DeviceTensor cos_;
  DeviceTensor sin_;
  DeviceTensor pages_;
  KvFormat pages_format_;
  int num_pages_ = 0;
};

}  // namespace comet
