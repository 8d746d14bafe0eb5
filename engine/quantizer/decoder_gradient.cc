#include "engine/quantizer/decoder_gradient.h"

#include <cmath>
#include <utility>

#include "engine/model/pack_floats.h"
#include "engine/quantizer/cache_rounding.h"
#include "engine/quantizer/coded_rows.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/host_layer.h"
#include "engine/quantizer/layer_linears.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/transposed.h"
#include "kernels/base/check.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

// One token at some outputs of a linear: adds to the gradient of their scales, and takes the
// gradient through these to the product.
COMET_WIDE_VECTORS void AddScaleGradient(const float* __restrict d_output,
                                         const float* __restrict product,
                                         const float* __restrict scale, size_t count,
                                         float* __restrict d_scale, float* __restrict d_product) {
  for (size_t n = 0; n < count; ++n) {
    d_scale[n] += d_output[n] * product[n];
    d_product[n] = d_output[n] * scale[n];
  }
}

COMET_WIDE_VECTORS void ScaleRow(const float* __restrict product, const float* __restrict scale,
                                 size_t count, float* __restrict out) {
  for (size_t n = 0; n < count; ++n) out[n] = product[n] * scale[n];
}

}  // namespace

Result<DifferentiableLayer> DifferentiableLayer::Make(Backend& backend, const ModelConfig& config,
                                                      const QuantizedLayer& layer,
                                                      const DifferentiableLayerOptions& options) {
  DifferentiableLayer made;
  made.backend_ = &backend;
  made.config_ = config;
  made.num_threads_ = options.num_threads;
  COMET_ASSIGN_OR_RETURN(made.rope_,
                         MakeRopeTables(config.rope, config.rotary_dim, options.window_tokens_max));
  made.kv_ = layer.kv;
  made.qk_hadamard_ = layer.qk_hadamard;
  made.input_norm_ = layer.input_norm;
  made.post_attention_norm_ = layer.post_attention_norm;
  made.mode_ = options.mode;
  COMET_RETURN_IF_ERROR(made.MakeMatrices(layer));
  return made;
}

Status DifferentiableLayer::MakeMatrices(const QuantizedLayer& layer) {
  const auto linears = LinearsOf(layer);
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const QuantizedLinear& linear = *linears[i];
    Matrix& matrix = matrices_[i];
    matrix.num_outputs = linear.num_outputs;
    matrix.num_inputs = linear.num_inputs;
    matrix.bias = linear.bias;
    const bool hadamard = layer.down_hadamard && i == static_cast<size_t>(LinearKind::kDown);
    COMET_ASSIGN_OR_RETURN(matrix.served, ServedProduct::Make(*backend_, linear, hadamard));
    if (mode_ == ActivationMode::kFloat) {
      COMET_ASSIGN_OR_RETURN(matrix.exact, PackFloats(*backend_->ops, Dequantize(ViewOf(linear)),
                                                      linear.num_outputs, linear.num_inputs));
    }
    const std::vector<float> weights = DequantizeInOrder(linear, hadamard, num_threads_);
    COMET_ASSIGN_OR_RETURN(
        matrix.backward,
        PackFloats(*backend_->ops, Transposed(weights, linear.num_inputs, num_threads_),
                   linear.num_inputs, linear.num_outputs));
  }
  return Status::Ok();
}

Status DifferentiableLayer::SetCodes(const QuantizedLayer& layer) { return MakeMatrices(layer); }

LayerFactors DifferentiableLayer::UnitFactors() const {
  LayerFactors factors;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    factors.scale[i].assign(static_cast<size_t>(matrices_[i].num_outputs), 1.0f);
  }
  factors.input_norm.assign(input_norm_.size(), 1.0f);
  factors.post_attention_norm.assign(post_attention_norm_.size(), 1.0f);
  return factors;
}

Status DifferentiableLayer::Forward(const LayerFactors& factors, std::span<float> hidden,
                                    LayerTape& tape) const {
  tape.hidden.assign(hidden.begin(), hidden.end());
  COMET_ASSIGN_OR_RETURN(const HostRows qkv, Apply(LinearKind::kQkv, factors,
                                                   NormRows(hidden, input_norm_, factors.input_norm,
                                                            config_.rms_norm_epsilon, num_threads_),
                                                   tape.qkv, tape));
  const size_t num_tokens = hidden.size() / input_norm_.size();
  tape.attention = SplitHeads(config_, qkv, num_threads_);
  RotateHeads(config_, rope_, num_tokens, 1.0f, num_threads_, tape.attention.q);
  RotateHeads(config_, rope_, num_tokens, 1.0f, num_threads_, tape.attention.k);
  RoundKeysAndValues(tape.attention);
  const AttentionShape shape = AttentionShapeOf(config_, num_tokens);
  COMET_ASSIGN_OR_RETURN(const HostRows o,
                         Apply(LinearKind::kO, factors,
                               CausalAttention(shape, tape.attention, num_threads_), tape.o, tape));
  AddTo(o, num_threads_, hidden);

  tape.mid_hidden.assign(hidden.begin(), hidden.end());
  COMET_ASSIGN_OR_RETURN(const HostRows gate_up,
                         Apply(LinearKind::kGateUp, factors,
                               NormRows(hidden, post_attention_norm_, factors.post_attention_norm,
                                        config_.rms_norm_epsilon, num_threads_),
                               tape.gate_up, tape));
  COMET_ASSIGN_OR_RETURN(
      const HostRows down,
      Apply(LinearKind::kDown, factors,
            SiluMulRows(gate_up, static_cast<size_t>(config_.ffn_size), num_threads_), tape.down,
            tape));
  AddTo(down, num_threads_, hidden);
  return Status::Ok();
}

Status DifferentiableLayer::Backward(const LayerFactors& factors, const LayerTape& tape,
                                     std::span<float> d_hidden, LayerFactors& gradient,
                                     WeightGradients* d_weights) const {
  COMET_ASSIGN_OR_RETURN(
      const HostRows d_activated,
      ApplyBackward(LinearKind::kDown, factors, tape, tape.down, d_hidden, gradient, d_weights));
  COMET_ASSIGN_OR_RETURN(
      const HostRows d_gate_up_input,
      ApplyBackward(
          LinearKind::kGateUp, factors, tape, tape.gate_up,
          SiluMulRowsGradient(Finish(LinearKind::kGateUp, factors, tape.gate_up),
                              static_cast<size_t>(config_.ffn_size), d_activated, num_threads_),
          gradient, d_weights));
  AddNormRowsGradient({.hidden = tape.mid_hidden,
                       .weight = post_attention_norm_,
                       .factor = factors.post_attention_norm,
                       .epsilon = config_.rms_norm_epsilon},
                      d_gate_up_input, num_threads_, d_hidden, gradient.post_attention_norm);

  COMET_ASSIGN_OR_RETURN(
      const HostRows d_attended,
      ApplyBackward(LinearKind::kO, factors, tape, tape.o, d_hidden, gradient, d_weights));
  const size_t num_tokens = tape.hidden.size() / input_norm_.size();
  AttentionRows d_rows = CausalAttentionGradient(AttentionShapeOf(config_, num_tokens),
                                                 tape.attention, d_attended, num_threads_);
  RotateHeads(config_, rope_, num_tokens, -1.0f, num_threads_, d_rows.q);
  RotateHeads(config_, rope_, num_tokens, -1.0f, num_threads_, d_rows.k);
  COMET_ASSIGN_OR_RETURN(
      const HostRows d_qkv_input,
      ApplyBackward(LinearKind::kQkv, factors, tape, tape.qkv,
                    JoinHeads(config_, d_rows, num_threads_), gradient, d_weights));
  AddNormRowsGradient({.hidden = tape.hidden,
                       .weight = input_norm_,
                       .factor = factors.input_norm,
                       .epsilon = config_.rms_norm_epsilon},
                      d_qkv_input, num_threads_, d_hidden, gradient.input_norm);
  return Status::Ok();
}

Result<HostRows> DifferentiableLayer::Apply(LinearKind kind, const LayerFactors& factors,
                                            HostRows input, HostRows& product,
                                            LayerTape& tape) const {
  const Matrix& matrix = of(kind);
  matrix.served.ToLayer(num_threads_, input);
  if (mode_ != ActivationMode::kFloat) {
    COMET_RETURN_IF_ERROR(matrix.served.Run(*backend_, mode_, num_threads_, input, product));
  } else {
    COMET_RETURN_IF_ERROR(MultiplyByTransposed(*backend_, input, *matrix.exact, product));
  }
  tape.inputs[static_cast<size_t>(kind)] = std::move(input);
  return Finish(kind, factors, product);
}

// A product with scale factors and bias on it.
HostRows DifferentiableLayer::Finish(LinearKind kind, const LayerFactors& factors,
                                     std::span<const float> product) const {
  const std::vector<float>& scale = factors.scale[static_cast<size_t>(kind)];
  const size_t width = scale.size();
  HostRows output(product.size());
  ParallelRows(num_threads_, static_cast<int>(product.size() / width), [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      ScaleRow(product.data() + t * width, scale.data(), width, output.data() + t * width);
    }
  });
  AddToRows(of(kind).bias, output);
  return output;
}

Result<HostRows> DifferentiableLayer::ApplyBackward(LinearKind kind, const LayerFactors& factors,
                                                    const LayerTape& tape,
                                                    std::span<const float> product,
                                                    std::span<const float> d_output,
                                                    LayerFactors& gradient,
                                                    WeightGradients* d_weights) const {
  const std::vector<float>& scale = factors.scale[static_cast<size_t>(kind)];
  std::vector<float>& d_scale = gradient.scale[static_cast<size_t>(kind)];
  const size_t width = scale.size();
  HostRows d_product(d_output.size());
  // Each thread adds all tokens of some outputs.
  ParallelRows(num_threads_, static_cast<int>(width), [&](int begin, int end) {
    const size_t n = static_cast<size_t>(begin);
    const size_t count = static_cast<size_t>(end - begin);
    for (size_t first = n; first < d_output.size(); first += width) {
      AddScaleGradient(d_output.data() + first, product.data() + first, scale.data() + n, count,
                       d_scale.data() + n, d_product.data() + first);
    }
  });
  if (d_weights) {
    COMET_RETURN_IF_ERROR(AddWeightGradient(d_product, tape.inputs[static_cast<size_t>(kind)],
                                            of(kind), (*d_weights)[static_cast<size_t>(kind)]));
  }
  return MultiplyByTransposed(*backend_, d_product, *of(kind).backward);
}

// Adds d_product' input: in 8-bit codes where activations are rounded, as what that takes from a
// gradient is small beside what one step's tokens leave open.
Status DifferentiableLayer::AddWeightGradient(std::span<const float> d_product,
                                              std::span<const float> input, const Matrix& matrix,
                                              HostRows& d_weights) const {
  const int num_tokens = static_cast<int>(input.size()) / matrix.num_inputs;
  if (mode_ != ActivationMode::kFloat) {
    return AddProductOfCodes(*backend_, Transposed(d_product, matrix.num_outputs, num_threads_),
                             Transposed(input, matrix.num_inputs, num_threads_), num_tokens,
                             d_weights);
  }
  COMET_ASSIGN_OR_RETURN(
      const std::unique_ptr<PackedLinear> columns,
      PackFloats(*backend_->ops, Transposed(input, matrix.num_inputs, num_threads_),
                 matrix.num_inputs, num_tokens));
  return AddByTransposed(*backend_, Transposed(d_product, matrix.num_outputs, num_threads_),
                         *columns, d_weights);
}

// A Hadamard of queries and keys leaves logits as they are: only the keys' rounding sees it.
void DifferentiableLayer::RoundKeysAndValues(AttentionRows& rows) const {
  const size_t dim = static_cast<size_t>(config_.head_dim);
  ParallelRows(num_threads_, static_cast<int>(rows.k.size() / dim), [&](int first, int last) {
    for (size_t i = static_cast<size_t>(first) * dim; i < static_cast<size_t>(last) * dim;
         i += dim) {
      const std::span<float> key = std::span(rows.k).subspan(i, dim);
      if (qk_hadamard_) HadamardRow(key);
      RoundThroughCache(key, kv_.k_bits);
      if (qk_hadamard_) HadamardRow(key);
      RoundThroughCache(std::span(rows.v).subspan(i, dim), kv_.v_bits);
    }
  });
}

}  // namespace comet
