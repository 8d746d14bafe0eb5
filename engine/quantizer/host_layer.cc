#include "engine/quantizer/host_layer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/exact_exp.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

size_t Index(int i) { return static_cast<size_t>(i); }

// Rows whose sums are taken side by side: each waits for its last addition.
constexpr size_t kRowsTogether = 4;

template <size_t kNumRows>
void InverseRmsOf(const float* rows, size_t width, float epsilon, float* inverse) {
  std::array<double, kNumRows> sums{};
  for (size_t k = 0; k < width; ++k) {
    for (size_t r = 0; r < kNumRows; ++r) {
      const double value = double{rows[r * width + k]};
      sums[r] += value * value;
    }
  }
  for (size_t r = 0; r < kNumRows; ++r) {
    inverse[r] =
        static_cast<float>(1.0 / std::sqrt(sums[r] / static_cast<double>(width) + double{epsilon}));
  }
}

// Of rows [inverse.size(), width].
void InverseRms(const float* rows, size_t width, float epsilon, std::span<float> inverse) {
  size_t t = 0;
  for (; t + kRowsTogether <= inverse.size(); t += kRowsTogether) {
    InverseRmsOf<kRowsTogether>(rows + t * width, width, epsilon, inverse.data() + t);
  }
  for (; t < inverse.size(); ++t) {
    InverseRmsOf<1>(rows + t * width, width, epsilon, inverse.data() + t);
  }
}

COMET_WIDE_VECTORS void NormRow(const float* __restrict x, float inverse,
                                const float* __restrict weight, const float* __restrict factor,
                                size_t width, float* __restrict out) {
  for (size_t k = 0; k < width; ++k) out[k] = x[k] * inverse * (weight[k] * factor[k]);
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + InlineExp(-x)); }

COMET_WIDE_VECTORS void SiluMulRow(const float* __restrict gate, const float* __restrict up,
                                   size_t ffn, float* __restrict out) {
  for (size_t j = 0; j < ffn; ++j) out[j] = gate[j] * Sigmoid(gate[j]) * up[j];
}

COMET_WIDE_VECTORS void SiluMulRowGradient(const float* __restrict gate, const float* __restrict up,
                                           const float* __restrict d_out, size_t ffn,
                                           float* __restrict d_gate, float* __restrict d_up) {
  for (size_t j = 0; j < ffn; ++j) {
    const float sigmoid = Sigmoid(gate[j]);
    const float d = d_out[j];
    d_up[j] = d * gate[j] * sigmoid;
    d_gate[j] = d * up[j] * sigmoid * (1.0f + gate[j] * (1.0f - sigmoid));
  }
}

COMET_WIDE_VECTORS void RotateHead(const float* __restrict cos, const float* __restrict sin,
                                   float direction, size_t half, float* __restrict low,
                                   float* __restrict high) {
  for (size_t i = 0; i < half; ++i) {
    const float a = low[i];
    const float b = high[i];
    low[i] = a * cos[i] - direction * b * sin[i];
    high[i] = b * cos[i] + direction * a * sin[i];
  }
}

}  // namespace

HostRows NormRows(std::span<const float> hidden, std::span<const float> weight,
                  std::span<const float> factor, float epsilon, int num_threads) {
  const size_t width = weight.size();
  HostRows normed(hidden.size());
  ParallelRows(num_threads, static_cast<int>(hidden.size() / width), [&](int begin, int end) {
    HostRows inverse(Index(end - begin));
    const size_t first = Index(begin) * width;
    InverseRms(hidden.data() + first, width, epsilon, inverse);
    for (size_t i = 0; i < inverse.size(); ++i) {
      NormRow(hidden.data() + first + i * width, inverse[i], weight.data(), factor.data(), width,
              normed.data() + first + i * width);
    }
  });
  return normed;
}

void AddNormRowsGradient(const NormedRows& rows, std::span<const float> d_normed, int num_threads,
                         std::span<float> d_hidden, std::span<float> d_factor) {
  const size_t width = rows.weight.size();
  const size_t num_tokens = rows.hidden.size() / width;
  HostRows inverse(num_tokens);
  ParallelRows(num_threads, static_cast<int>(num_tokens), [&](int begin, int end) {
    InverseRms(rows.hidden.data() + Index(begin) * width, width, rows.epsilon,
               std::span(inverse).subspan(Index(begin), Index(end - begin)));
    for (size_t t = Index(begin); t < Index(end); ++t) {
      const float* x = rows.hidden.data() + t * width;
      const float* d = d_normed.data() + t * width;
      float* out = d_hidden.data() + t * width;
      double along = 0.0;  // Of the gradient on the row itself: the norm takes that part away.
      for (size_t k = 0; k < width; ++k) {
        along += double{d[k] * (rows.weight[k] * rows.factor[k])} * double{x[k]};
      }
      const float shared =
          static_cast<float>(along) * inverse[t] * inverse[t] / static_cast<float>(width);
      for (size_t k = 0; k < width; ++k) {
        out[k] += inverse[t] * (d[k] * (rows.weight[k] * rows.factor[k]) - x[k] * shared);
      }
    }
  });
  // Each thread adds all tokens of some channels.
  ParallelRows(num_threads, static_cast<int>(width), [&](int begin, int end) {
    for (size_t t = 0; t < num_tokens; ++t) {
      const float* x = rows.hidden.data() + t * width;
      const float* d = d_normed.data() + t * width;
      for (size_t k = Index(begin); k < Index(end); ++k) {
        d_factor[k] += d[k] * x[k] * inverse[t] * rows.weight[k];
      }
    }
  });
}

HostRows SiluMulRows(std::span<const float> gate_up, size_t ffn, int num_threads) {
  const size_t num_tokens = gate_up.size() / (2 * ffn);
  HostRows out(num_tokens * ffn);
  ParallelRows(num_threads, static_cast<int>(num_tokens), [&](int first, int last) {
    for (size_t t = Index(first); t < Index(last); ++t) {
      const float* gate = gate_up.data() + t * 2 * ffn;
      SiluMulRow(gate, gate + ffn, ffn, out.data() + t * ffn);
    }
  });
  return out;
}

HostRows SiluMulRowsGradient(std::span<const float> gate_up, size_t ffn,
                             std::span<const float> d_out, int num_threads) {
  const size_t num_tokens = gate_up.size() / (2 * ffn);
  HostRows gradient(gate_up.size());
  ParallelRows(num_threads, static_cast<int>(num_tokens), [&](int first, int last) {
    for (size_t t = Index(first); t < Index(last); ++t) {
      const float* gate = gate_up.data() + t * 2 * ffn;
      float* d_gate = gradient.data() + t * 2 * ffn;
      SiluMulRowGradient(gate, gate + ffn, d_out.data() + t * ffn, ffn, d_gate, d_gate + ffn);
    }
  });
  return gradient;
}

AttentionRows SplitHeads(const ModelConfig& config, std::span<const float> qkv, int num_threads) {
  const size_t q_size = Index(config.q_size());
  const size_t kv_size = Index(config.kv_size());
  const size_t width = q_size + 2 * kv_size;
  const size_t num_tokens = qkv.size() / width;
  AttentionRows rows{.q = HostRows(num_tokens * q_size),
                     .k = HostRows(num_tokens * kv_size),
                     .v = HostRows(num_tokens * kv_size)};
  ParallelRows(num_threads, static_cast<int>(num_tokens), [&](int first, int last) {
    for (size_t t = Index(first); t < Index(last); ++t) {
      const float* row = qkv.data() + t * width;
      std::copy_n(row, q_size, rows.q.data() + t * q_size);
      std::copy_n(row + q_size, kv_size, rows.k.data() + t * kv_size);
      std::copy_n(row + q_size + kv_size, kv_size, rows.v.data() + t * kv_size);
    }
  });
  return rows;
}

HostRows JoinHeads(const ModelConfig& config, const AttentionRows& rows, int num_threads) {
  const size_t q_size = Index(config.q_size());
  const size_t kv_size = Index(config.kv_size());
  const size_t width = q_size + 2 * kv_size;
  HostRows qkv(rows.q.size() + rows.k.size() + rows.v.size());
  ParallelRows(num_threads, static_cast<int>(qkv.size() / width), [&](int first, int last) {
    for (size_t t = Index(first); t < Index(last); ++t) {
      float* row = qkv.data() + t * width;
      std::copy_n(rows.q.data() + t * q_size, q_size, row);
      std::copy_n(rows.k.data() + t * kv_size, kv_size, row + q_size);
      std::copy_n(rows.v.data() + t * kv_size, kv_size, row + q_size + kv_size);
    }
  });
  return qkv;
}

void RotateHeads(const ModelConfig& config, const RopeTables& rope, size_t num_tokens,
                 float direction, int num_threads, std::span<float> rows) {
  const size_t dim = Index(config.head_dim);
  const size_t half = Index(config.rotary_dim) / 2;
  const size_t width = rows.size() / num_tokens;
  ParallelRows(num_threads, static_cast<int>(num_tokens), [&](int first, int last) {
    for (size_t t = Index(first); t < Index(last); ++t) {
      for (size_t head = t * width; head < (t + 1) * width; head += dim) {
        RotateHead(rope.cos.data() + t * half, rope.sin.data() + t * half, direction, half,
                   rows.data() + head, rows.data() + head + half);
      }
    }
  });
}

void AddToRows(std::span<const float> vector, std::span<float> rows) {
  if (vector.empty()) return;
  for (size_t first = 0; first < rows.size(); first += vector.size()) {
    for (size_t n = 0; n < vector.size(); ++n) rows[first + n] += vector[n];
  }
}

void AddTo(std::span<const float> values, int num_threads, std::span<float> sum) {
  ParallelRows(num_threads, static_cast<int>(sum.size()), [&](int first, int last) {
    for (size_t i = Index(first); i < Index(last); ++i) sum[i] += values[i];
  });
}

AttentionShape AttentionShapeOf(const ModelConfig& config, size_t num_tokens) {
  return {.num_tokens = static_cast<int>(num_tokens),
          .num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .window = config.sliding_window};
}

}  // namespace comet
