#pragma once

#include <memory>
#include <vector>

#include "engine/loader/checkpoint.h"
#include "engine/loader/float_source.h"
#include "engine/model/device_tensor.h"
#include "engine/model/model_config.h"
#include "engine/model/precision.h"
#include "engine/model/step_workspace.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct SyntheticModel;

enum class LinearKind { kQkv, kO, kGateUp, kDown };
inline constexpr int kNumLinearKinds = 4;

// Sees the input of every linear layer, and the residual stream after the two that add to it; for
// calibration. Views are device memory, an input's in the layer's own channel order, valid during
// the call.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  virtual void OnLinearInput(LinearKind kind, const LinearInput& input) = 0;
  virtual void OnResidual(LinearKind /*kind*/, const TensorView& /*hidden*/) {}
};

// What a layer reads of a step beside its own weights.
struct LayerStep {
  TensorView hidden;  // [num_tokens, hidden_size], read and replaced
  const StepWorkspace& workspace;
  KvCacheView cache;
  ConstTensorView cos;
  ConstTensorView sin;
  LayerObserver* observer = nullptr;
};

// One linear layer's weights on the device, and the form its input takes.
struct LinearLayer {
  std::unique_ptr<PackedLinear> weights;
  ActivationFormat format;
  DeviceTensor bias;
  DeviceTensor gather;
};

// Weights of one transformer layer on a back end. Immutable after making.
class DecoderLayer {
 public:
  static Result<DecoderLayer> Make(Backend& backend, const ModelConfig& config,
                                   const CheckpointLayer& layer, const Precision& precision);
  static Result<DecoderLayer> Make(Backend& backend, const ModelConfig& config,
                                   const FloatLayer& layer, const Precision& precision);
  static Result<DecoderLayer> Make(Backend& backend, const SyntheticModel& synthetic, int layer_idx,
                                   const Precision& precision);

  // hidden += attention(norm(hidden)), then hidden += feed_forward(norm(hidden)); keys and values
  // of the step's tokens go to the cache.
  Status Forward(Ops& ops, const ModelConfig& config, const LayerStep& step) const;

  const KvFormat& kv_format() const { return kv_; }
  int64_t num_bytes() const;

 private:
  DeviceTensor input_norm_;
  DeviceTensor post_attention_norm_;
  LinearLayer qkv_;
  LinearLayer o_;
  LinearLayer gate_up_;
  LinearLayer down_;
  KvFormat kv_;
  bool qk_hadamard_ = false;
};

// Rows dequantised to fp32, in the layer's permuted channel order.
std::vector<float> Dequantize(const W4axWeights& weights);
std::vector<float> Dequantize(const Int8Weights& weights);

}  // namespace comet
