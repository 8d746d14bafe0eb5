#include "engine/quantizer/decoder_gradient.h"

#include <cmath>
#include <utility>

#include "engine/quantizer/cache_rounding.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/exact_math.h"

namespace comet {
namespace {

// Dequantised rows with their channels in the producer's order.
std::vector<float> WeightsOf(const QuantizedLinear& linear) {
  std::vector<float> permuted = Dequantize(ViewOf(linear));
  if (linear.gather.empty()) return permuted;
  const size_t width = linear.gather.size();
  std::vector<float> weights(permuted.size());
  for (size_t first = 0; first < permuted.size(); first += width) {
    for (size_t j = 0; j < width; ++j) {
      weights[first + static_cast<size_t>(linear.gather[j])] = permuted[first + j];
    }
  }
  return weights;
}

float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

// silu(gate) * up of rows [2 ffn].
std::vector<float> SiluMulRows(std::span<const float> gate_up, size_t ffn, int num_threads) {
  const size_t num_tokens = gate_up.size() / (2 * ffn);
  std::vector<float> out(num_tokens * ffn);
  ParallelRows(num_threads, static_cast<int>(num_tokens), [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const float* gate = gate_up.data() + t * 2 * ffn;
      const float* up = gate + ffn;
      for (size_t j = 0; j < ffn; ++j) out[t * ffn + j] = gate[j] * Sigmoid(gate[j]) * up[j];
    }
  });
  return out;
}

std::vector<float> SiluMulRowsGradient(std::span<const float> gate_up, size_t ffn,
                                       std::span<const float> d_out, int num_threads) {
  const size_t num_tokens = gate_up.size() / (2 * ffn);
  std::vector<float> gradient(gate_up.size());
  ParallelRows(num_threads, static_cast<int>(num_tokens), [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const float* gate = gate_up.data() + t * 2 * ffn;
      const float* up = gate + ffn;
      float* d_gate = gradient.data() + t * 2 * ffn;
      float* d_up = d_gate + ffn;
      for (size_t j = 0; j < ffn; ++j) {
        const float sigmoid = Sigmoid(gate[j]);
        const float d = d_out[t * ffn + j];
        d_up[j] = d * gate[j] * sigmoid;
        d_gate[j] = d * up[j] * sigmoid * (1.0f + gate[j] * (1.0f - sigmoid));
      }
    }
  });
  return gradient;
}

float InverseRms(const float* row, size_t width, float epsilon) {
  double sum = 0.0;
  for (size_t k = 0; k < width; ++k) sum += double{row[k]} * double{row[k]};
  return static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(width) + double{epsilon}));
}

void AddRows(std::span<const float> values, std::vector<float>& sum) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
}

}  // namespace

std::vector<float> NormRows(std::span<const float> hidden, std::span<const float> weight,
                            std::span<const float> factor, float epsilon) {
  const size_t width = weight.size();
  std::vector<float> normed(hidden.size());
  for (size_t first = 0; first < hidden.size(); first += width) {
    const float inverse = InverseRms(hidden.data() + first, width, epsilon);
    for (size_t k = 0; k < width; ++k) {
      normed[first + k] = hidden[first + k] * inverse * (weight[k] * factor[k]);
    }
  }
  return normed;
}

void AddNormRowsGradient(std::span<const float> hidden, std::span<const float> weight,
                         std::span<const float> factor, float epsilon,
                         std::span<const float> d_normed, std::vector<float>& d_hidden,
                         std::vector<float>& d_factor) {
  const size_t width = weight.size();
  for (size_t first = 0; first < hidden.size(); first += width) {
    const float* x = hidden.data() + first;
    const float* d = d_normed.data() + first;
    const float inverse = InverseRms(x, width, epsilon);
    double along = 0.0;  // Of the gradient on the row itself: the norm takes that part away.
    for (size_t k = 0; k < width; ++k) {
      d_factor[k] += d[k] * x[k] * inverse * weight[k];
      along += double{d[k] * (weight[k] * factor[k])} * double{x[k]};
    }
    const float shared = static_cast<float>(along) * inverse * inverse / static_cast<float>(width);
    for (size_t k = 0; k < width; ++k) {
      d_hidden[first + k] += inverse * (d[k] * (weight[k] * factor[k]) - x[k] * shared);
    }
  }
}

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
    const std::vector<float> weights = WeightsOf(*linears[i]);
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

Status DifferentiableLayer::Forward(const LayerFactors& factors, std::vector<float>& hidden,
                                    LayerTape& tape) const {
  tape.hidden = hidden;
  std::vector<float> output;
  COMET_RETURN_IF_ERROR(
      Apply(LinearKind::kQkv, factors,
            NormRows(hidden, input_norm_, factors.input_norm, config_.rms_norm_epsilon), tape.qkv,
            output));
  const size_t num_tokens = hidden.size() / input_norm_.size();
  tape.attention = SplitHeads(output);
  Rotate(tape.attention.q, num_tokens, 1.0f);
  Rotate(tape.attention.k, num_tokens, 1.0f);
  RoundKeysAndValues(tape.attention);
  const AttentionShape shape = ShapeOf(num_tokens);
  COMET_ASSIGN_OR_RETURN(const std::vector<float> attended,
                         CausalAttention(*backend_, shape, tape.attention, num_threads_));
  COMET_RETURN_IF_ERROR(Apply(LinearKind::kO, factors, attended, tape.o, output));
  AddRows(output, hidden);

  tape.mid_hidden = hidden;
  COMET_RETURN_IF_ERROR(Apply(
      LinearKind::kGateUp, factors,
      NormRows(hidden, post_attention_norm_, factors.post_attention_norm, config_.rms_norm_epsilon),
      tape.gate_up, output));
  COMET_RETURN_IF_ERROR(Apply(
      LinearKind::kDown, factors,
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
  const AttentionShape shape = ShapeOf(num_tokens);
  COMET_ASSIGN_OR_RETURN(
      AttentionRows d_rows,
      CausalAttentionGradient(*backend_, shape, tape.attention, d_attended, num_threads_));
  Rotate(d_rows.q, num_tokens, -1.0f);
  Rotate(d_rows.k, num_tokens, -1.0f);
  COMET_ASSIGN_OR_RETURN(
      const std::vector<float> d_qkv_input,
      ApplyBackward(LinearKind::kQkv, factors, tape.qkv, JoinHeads(d_rows), gradient));
  AddNormRowsGradient(tape.hidden, input_norm_, factors.input_norm, config_.rms_norm_epsilon,
                      d_qkv_input, d_hidden, gradient.input_norm);
  return Status::Ok();
}

AttentionShape DifferentiableLayer::ShapeOf(size_t num_tokens) const {
  return {.num_tokens = static_cast<int>(num_tokens),
          .num_heads = config_.num_heads,
          .num_kv_heads = config_.num_kv_heads,
          .head_dim = config_.head_dim,
          .window = config_.sliding_window};
}

Status DifferentiableLayer::Apply(LinearKind kind, const LayerFactors& factors,
                                  std::span<const float> input, std::vector<float>& product,
                                  std::vector<float>& output) const {
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
    if (bias.empty()) continue;
    for (size_t n = 0; n < width; ++n) rows[first + n] += bias[n];
  }
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

AttentionRows DifferentiableLayer::SplitHeads(std::span<const float> qkv) const {
  const size_t q_size = static_cast<size_t>(config_.q_size());
  const size_t kv_size = static_cast<size_t>(config_.kv_size());
  AttentionRows rows;
  for (size_t first = 0; first < qkv.size(); first += q_size + 2 * kv_size) {
    const std::span<const float> row = qkv.subspan(first, q_size + 2 * kv_size);
    rows.q.insert(rows.q.end(), row.begin(), row.begin() + static_cast<std::ptrdiff_t>(q_size));
    const std::span<const float> k = row.subspan(q_size, kv_size);
    rows.k.insert(rows.k.end(), k.begin(), k.end());
    const std::span<const float> v = row.last(kv_size);
    rows.v.insert(rows.v.end(), v.begin(), v.end());
  }
  return rows;
}

std::vector<float> DifferentiableLayer::JoinHeads(const AttentionRows& rows) const {
  const size_t q_size = static_cast<size_t>(config_.q_size());
  const size_t kv_size = static_cast<size_t>(config_.kv_size());
  const size_t num_tokens = rows.q.size() / q_size;
  std::vector<float> qkv;
  qkv.reserve(rows.q.size() + rows.k.size() + rows.v.size());
  const auto append = [&](const std::vector<float>& values, size_t token, size_t width) {
    const std::span<const float> row = std::span(values).subspan(token * width, width);
    qkv.insert(qkv.end(), row.begin(), row.end());
  };
  for (size_t t = 0; t < num_tokens; ++t) {
    append(rows.q, t, q_size);
    append(rows.k, t, kv_size);
    append(rows.v, t, kv_size);
  }
  return qkv;
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

// Split-half rotary pairs; direction -1 is the transpose.
void DifferentiableLayer::Rotate(std::vector<float>& rows, size_t num_tokens,
                                 float direction) const {
  const size_t dim = static_cast<size_t>(config_.head_dim);
  const size_t half = static_cast<size_t>(config_.rotary_dim) / 2;
  const size_t width = rows.size() / num_tokens;
  for (size_t t = 0; t < num_tokens; ++t) {
    const float* cos = rope_.cos.data() + t * half;
    const float* sin = rope_.sin.data() + t * half;
    for (size_t head = t * width; head < (t + 1) * width; head += dim) {
      for (size_t i = 0; i < half; ++i) {
        const float a = rows[head + i];
        const float b = rows[head + half + i];
        rows[head + i] = a * cos[i] - direction * b * sin[i];
        rows[head + half + i] = b * cos[i] + direction * a * sin[i];
      }
    }
  }
}

}  // namespace comet
