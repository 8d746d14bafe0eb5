#pragma once

#include <memory>
#include <vector>

#include "engine/loader/float_source.h"
#include "engine/model/device_tensor.h"
#include "engine/model/model_config.h"
#include "engine/model/step_workspace.h"
#include "kernels/base/math.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/make_backend.h"
#include "kernels/ops/kv_cache_view.h"
#include "kernels/ops/linear.h"

namespace comet {

// The attention half of one float layer over one window, run with different formats of the cache.
// Errors: those of the back end.
class AttentionProbe {
 public:
  // fp32 keys and values: what the others are compared with.
  static constexpr KvFormat kExact{.k_bits = 32, .v_bits = 32};

  // `hidden` [num_tokens, hidden_size] f32, device memory, outlives the probe: the layer's input,
  // from position 0.
  static Result<AttentionProbe> Create(Backend& backend, const ModelConfig& config,
                                       const FloatLayer& layer, ConstTensorView hidden);

  // The attention output [num_tokens, q_size].
  Result<std::vector<float>> Run(const KvFormat& format, bool hadamard);

 private:
  AttentionProbe(Backend& backend, const ModelConfig& config, int num_tokens)
      : backend_(backend), config_(config), num_pages_(CeilDiv(num_tokens, kPageTokens)) {}

  Status Prepare(const FloatLayer& layer, ConstTensorView hidden);

  Backend& backend_;
  ModelConfig config_;
  int num_pages_;
  StepWorkspace workspace_;
  std::unique_ptr<PackedLinear> weights_;
  DeviceTensor norm_;
  DeviceTensor bias_;
  DeviceTensor cos_;
  DeviceTensor sin_;
  ConstTensorView hidden_;
};

}  // namespace comet
