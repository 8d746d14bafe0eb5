#include "engine/quantizer/host_layer.h"

#include <cmath>

#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/exact_math.h"

namespace comet {
namespace {

float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

float InverseRms(const float* row, size_t width, float epsilon) {
  double sum = 0.0;
  for (size_t k = 0; k < width; ++k) sum += double{row[k]} * double{row[k]};
  return static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(width) + double{epsilon}));
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

AttentionRows SplitHeads(const ModelConfig& config, std::span<const float> qkv) {
  const size_t q_size = static_cast<size_t>(config.q_size());
  const size_t kv_size = static_cast<size_t>(config.kv_size());
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

std::vector<float> JoinHeads(const ModelConfig& config, const AttentionRows& rows) {
  const size_t q_size = static_cast<size_t>(config.q_size());
  const size_t kv_size = static_cast<size_t>(config.kv_size());
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

void RotateHeads(const ModelConfig& config, const RopeTables& rope, size_t num_tokens,
                 float direction, std::vector<float>& rows) {
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t half = static_cast<size_t>(config.rotary_dim) / 2;
  const size_t width = rows.size() / num_tokens;
  for (size_t t = 0; t < num_tokens; ++t) {
    const float* cos = rope.cos.data() + t * half;
    const float* sin = rope.sin.data() + t * half;
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

void AddToRows(std::span<const float> vector, std::vector<float>& rows) {
  if (vector.empty()) return;
  for (size_t first = 0; first < rows.size(); first += vector.size()) {
    for (size_t n = 0; n < vector.size(); ++n) rows[first + n] += vector[n];
  }
}

AttentionShape AttentionShapeOf(const ModelConfig& config, size_t num_tokens) {
  return {.num_tokens = static_cast<int>(num_tokens),
          .num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .window = config.sliding_window};
}

}  // namespace comet
