#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "engine/model/decoder_layer.h"
#include "engine/model/model_config.h"
#include "engine/model/rope.h"
#include "engine/quantizer/attention_gradient.h"
#include "engine/quantizer/served_product.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// The continuous parameters of one quantised layer that tuning moves, as factors on what the
// checkpoint holds; or the gradients of them.
struct LayerFactors {
  std::array<std::vector<float>, kNumLinearKinds> scale;  // [N] of each linear's scales
  std::vector<float> input_norm;                          // [hidden]
  std::vector<float> post_attention_norm;                 // [hidden]
};

// What the forward pass of one window leaves for the backward pass; rows of num_tokens each.
struct LayerTape {
  HostRows hidden;          // The layer's input.
  HostRows qkv;             // Products without scale factors and bias, as for the next four.
  AttentionRows attention;  // Rotated; keys and values as the cache holds them.
  HostRows o;
  HostRows mid_hidden;  // The residual stream after attention.
  HostRows gate_up;
  HostRows down;
  // What each linear multiplies, in its own order and basis, as rounded.
  std::array<HostRows, kNumLinearKinds> inputs;
};

// The gradient of each linear's weights, [N, K] in its own order and basis, without scale factors;
// empty: 0.
using WeightGradients = std::array<HostRows, kNumLinearKinds>;

struct DifferentiableLayerOptions {
  int window_tokens_max = 0;
  // As forward passes round the linears' inputs: an integer mode's products are those of serving.
  ActivationMode mode = ActivationMode::kMixed;
  int num_threads = 1;
};

// One quantised layer, forward and backward, for tuning its factors: weights as the codes give
// them, keys and values rounded as the layer's cache does and the linears' inputs as a mode does;
// the gradient passes through unchanged (a straight-through estimate). Linear products go through
// the back end; everything else is computed on the host in fp32. The gradients of weights and
// scales take the inputs as rounded. Only SetCodes() changes a layer.
class DifferentiableLayer {
 public:
  // Errors: those of the back end.
  static Result<DifferentiableLayer> Make(Backend& backend, const ModelConfig& config,
                                          const QuantizedLayer& layer,
                                          const DifferentiableLayerOptions& options);

  // Factors of 1.
  LayerFactors UnitFactors() const;

  // hidden [num_tokens, hidden_size], the rows of one window from position 0, is replaced.
  Status Forward(const LayerFactors& factors, std::span<float> hidden, LayerTape& tape) const;

  // Replaces the gradient of the layer's output by that of its input, and adds to `gradient` and,
  // if that is not null, to `d_weights`.
  Status Backward(const LayerFactors& factors, const LayerTape& tape, std::span<float> d_hidden,
                  LayerFactors& gradient, WeightGradients* d_weights) const;

  // Takes the codes of a layer that differs in them alone. Errors: those of the back end.
  Status SetCodes(const QuantizedLayer& layer);

 private:
  struct Matrix {
    int num_outputs = 0;
    int num_inputs = 0;
    ServedProduct served;
    std::unique_ptr<PackedLinear> exact;     // [N, K] in the layer's order; null: products are
                                             // those of serving
    std::unique_ptr<PackedLinear> backward;  // [K, N], channels in the producer's order
    std::vector<float> bias;
  };

  Status MakeMatrices(const QuantizedLayer& layer);
  const Matrix& of(LinearKind kind) const { return matrices_[static_cast<size_t>(kind)]; }
  Result<HostRows> Apply(LinearKind kind, const LayerFactors& factors, HostRows input,
                         HostRows& product, LayerTape& tape) const;
  HostRows Finish(LinearKind kind, const LayerFactors& factors,
                  std::span<const float> product) const;
  Result<HostRows> ApplyBackward(LinearKind kind, const LayerFactors& factors,
                                 const LayerTape& tape, std::span<const float> product,
                                 std::span<const float> d_output, LayerFactors& gradient,
                                 WeightGradients* d_weights) const;
  Status AddWeightGradient(std::span<const float> d_product, std::span<const float> input,
                           const Matrix& matrix, HostRows& d_weights) const;
  void RoundKeysAndValues(AttentionRows& rows) const;

  Backend* backend_ = nullptr;
  ModelConfig config_;
  int num_threads_ = 1;
  ActivationMode mode_ = ActivationMode::kMixed;
  RopeTables rope_;
  KvFormat kv_;
  bool qk_hadamard_ = false;
  std::array<Matrix, kNumLinearKinds> matrices_;
  std::vector<float> input_norm_;
  std::vector<float> post_attention_norm_;
};

}  // namespace comet
