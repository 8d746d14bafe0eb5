#include "engine/quantizer/decoder_gradient.h"

#include <cmath>
#include <utility>

#include "engine/quantizer/cache_rounding.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/host_layer.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/parallel_rows.h"

namespace comet {
namespace {

void AddRows(std::span<const float> values, std::vector<float>& sum) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
}

}  // namespace

Result<DifferentiableLayer> DifferentiableLayer::Make(Backend& backend, const ModelConfig& config,
                                                      const QuantizedLayer& layer,
                                                      int window_tokens_max, int num_threads) {
  DifferentiableLayer made;
  made.backend_ = &backend;
  made.config_ = config;
  made.num_threads_ = num_threads;
  COMET_ASSIGN_OR_RETURN(made.rope_,
                         MakeRopeTables(config.rope, config.rotary_dim, window_tokens_max));
  made.kv_ = layer.kv;
  made.qk_hadamard_ = layer.qk_hadamard;
  made.input_norm_ = layer.input_norm;
  made.post_attention_norm_ = layer.post_attention_norm;
  const QuantizedLinear* linears[] = {&layer.qkv, &layer.o, &layer.gate_up, &layer.down};
  for (size_t i = 0; i < made.matrices_.size(); ++i) {
    const int num_outputs = linears[i]->num_outputs;
    const int num_inputs = linears[i]->num_inputs;
    Matrix& matrix = made.matrices_[i];
    const bool hadamard = layer.down_hadamard && i == static_cast<size_t>(LinearKind::kDown);
    const std::vector<float> weights = DequantizeInOrder(*linears[i], hadamard);
    matrix.rounding.emplace(*linears[i], hadamard);
    COMET_ASSIGN_OR_RETURN(matrix.forward, PackMatrix(backend, weights, num_outputs, num_inputs));
    COMET_ASSIGN_OR_RETURN(matrix.backward, PackMatrix(backend, Transposed(weights, num_inputs),
                                                       num_inputs, num_outputs));
    matrix.bias = linears[i]->bias;
  }
  return made;
}

LayerFactors DifferentiableLayer::UnitFactors() const {
  LayerFactors factors;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    factors.scale[i].assign(static_cast<size_t>(matrices_[i].forward->num_outputs()), 1.0f);
  }
  factors.input_norm.assign(input_norm_.size(), 1.0f);
  factors.post_attention_norm.assign(post_attention_norm_.size(), 1.0f);
  return factors;
}

Status DifferentiableLayer::Forward(const LayerFactors& factors, ActivationMode mode,
                                    std::vector<float>& hidden, LayerTape& tape) const {
  tape.hidden = hidden;
  std::vector<float> output;
  COMET_RETURN_IF_ERROR(
      Apply(LinearKind::kQkv, factors, mode,
            NormRows(hidden, input_norm_, factors.input_norm, config_.rms_norm_epsilon), tape.qkv,
            output));
  const size_t num_tokens = hidden.size() / input_norm_.size();
  tape.attention = SplitHeads(config_, output);
  RotateHeads(config_, rope_, num_tokens, 1.0f, tape.attention.q);
  RotateHeads(config_, rope_, num_tokens, 1.0f, tape.attention.k);
  RoundKeysAndValues(tape.attention);
  const AttentionShape shape = AttentionShapeOf(config_, num_tokens);
  COMET_ASSIGN_OR_RETURN(const std::vector<float> attended,
                         CausalAttention(*backend_, shape, tape.attention, num_threads_));
  COMET_RETURN_IF_ERROR(Apply(LinearKind::kO, factors, mode, attended, tape.o, output));
  AddRows(output, hidden);

  tape.mid_hidden = hidden;
  COMET_RETURN_IF_ERROR(Apply(
      LinearKind::kGateUp, factors, mode,
      NormRows(hidden, post_attention_norm_, factors.post_attention_norm, config_.rms_norm_epsilon),
      tape.gate_up, output));
  COMET_RETURN_IF_ERROR(Apply(
      LinearKind::kDown, factors, mode,
      SiluMulRows(output, static_cast<size_t>(config_.ffn_size), num_threads_), tape.down, output));
  AddRows(output, hidden);
  return Status::Ok();
}

Status DifferentiableLayer::Backward(const LayerFactors& factors, const LayerTape& tape,
                                     std::vector<float>& d_hidden, LayerFactors& gradient) const {
  COMET_ASSIGN_OR_RETURN(const std::vector<float> d_activated,
                         ApplyBackward(LinearKind::kDown, factors, tape.down, d_hidden, gradient));
  std::vector<float> gate_up = tape.gate_up;
  Finish(LinearKind::kGateUp, factors, gate_up);
  COMET_ASSIGN_OR_RETURN(
      const std::vector<float> d_gate_up_input,
      ApplyBackward(LinearKind::kGateUp, factors, tape.gate_up,
                    SiluMulRowsGradient(gate_up, static_cast<size_t>(config_.ffn_size), d_activated,
                                        num_threads_),
                    gradient));
  AddNormRowsGradient(tape.mid_hidden, post_attention_norm_, factors.post_attention_norm,
                      config_.rms_norm_epsilon, d_gate_up_input, d_hidden,
                      gradient.post_attention_norm);

  COMET_ASSIGN_OR_RETURN(const std::vector<float> d_attended,
                         ApplyBackward(LinearKind::kO, factors, tape.o, d_hidden, gradient));
  const size_t num_tokens = tape.hidden.size() / input_norm_.size();
  const AttentionShape shape = AttentionShapeOf(config_, num_tokens);
  COMET_ASSIGN_OR_RETURN(
      AttentionRows d_rows,
      CausalAttentionGradient(*backend_, shape, tape.attention, d_attended, num_threads_));
  RotateHeads(config_, rope_, num_tokens, -1.0f, d_rows.q);
  RotateHeads(config_, rope_, num_tokens, -1.0f, d_rows.k);
  COMET_ASSIGN_OR_RETURN(
      const std::vector<float> d_qkv_input,
      ApplyBackward(LinearKind::kQkv, factors, tape.qkv, JoinHeads(config_, d_rows), gradient));
  AddNormRowsGradient(tape.hidden, input_norm_, factors.input_norm, config_.rms_norm_epsilon,
                      d_qkv_input, d_hidden, gradient.input_norm);
  return Status::Ok();
}

Status DifferentiableLayer::Apply(LinearKind kind, const LayerFactors& factors, ActivationMode mode,
                                  std::vector<float> input, std::vector<float>& product,
                                  std::vector<float>& output) const {
  COMET_RETURN_IF_ERROR(of(kind).rounding->Round(*backend_, mode, num_threads_, input));
  COMET_ASSIGN_OR_RETURN(product, MultiplyByTransposed(*backend_, input, *of(kind).forward));
  output = product;
  Finish(kind, factors, output);
  return Status::Ok();
}

// Scale factors and bias on a product.
void DifferentiableLayer::Finish(LinearKind kind, const LayerFactors& factors,
                                 std::vector<float>& rows) const {
  const std::vector<float>& scale = factors.scale[static_cast<size_t>(kind)];
  const std::vector<float>& bias = of(kind).bias;
  const size_t width = scale.size();
  for (size_t first = 0; first < rows.size(); first += width) {
    for (size_t n = 0; n < width; ++n) rows[first + n] *= scale[n];
  }
  AddToRows(bias, rows);
}

Result<std::vector<float>> DifferentiableLayer::ApplyBackward(LinearKind kind,
                                                              const LayerFactors& factors,
                                                              std::span<const float> product,
                                                              std::span<const float> d_output,
                                                              LayerFactors& gradient) const {
  const std::vector<float>& scale = factors.scale[static_cast<size_t>(kind)];
  std::vector<float>& d_scale = gradient.scale[static_cast<size_t>(kind)];
  const size_t width = scale.size();
  std::vector<float> d_product(d_output.size());
  for (size_t first = 0; first < d_output.size(); first += width) {
    for (size_t n = 0; n < width; ++n) {
      d_scale[n] += d_output[first + n] * product[first + n];
      d_product[first + n] = d_output[first + n] * scale[n];
    }
  }
  return MultiplyByTransposed(*backend_, d_product, *of(kind).backward);
}

// A Hadamard of queries and keys leaves logits as they are: only the keys' rounding sees it.
void DifferentiableLayer::RoundKeysAndValues(AttentionRows& rows) const {
  const size_t dim = static_cast<size_t>(config_.head_dim);
  for (size_t first = 0; first < rows.k.size(); first += dim) {
    const std::span<float> key = std::span(rows.k).subspan(first, dim);
    if (qk_hadamard_) HadamardRow(key);
    RoundThroughCache(key, kv_.k_bits);
    if (qk_hadamard_) HadamardRow(key);
    RoundThroughCache(std::span(rows.v).subspan(first, dim), kv_.v_bits);
  }
}

}  // namespace comet
