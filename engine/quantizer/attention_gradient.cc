#include "engine/quantizer/attention_gradient.h"

#include <algorithm>
#include <cmath>

#include "engine/quantizer/float_product.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/exact_math.h"

namespace comet {
namespace {

// [num_tokens, head_dim] of one head.
std::vector<float> HeadOf(std::span<const float> rows, const AttentionShape& shape, int head) {
  const size_t width = rows.size() / static_cast<size_t>(shape.num_tokens);
  const size_t dim = static_cast<size_t>(shape.head_dim);
  std::vector<float> values;
  values.reserve(static_cast<size_t>(shape.num_tokens) * dim);
  for (size_t first = static_cast<size_t>(head) * dim; first < rows.size(); first += width) {
    const std::span<const float> row = rows.subspan(first, dim);
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

void AddToHead(std::span<const float> values, const AttentionShape& shape, int head,
               std::vector<float>& rows) {
  const size_t width = rows.size() / static_cast<size_t>(shape.num_tokens);
  const size_t dim = static_cast<size_t>(shape.head_dim);
  for (size_t i = 0; i < values.size(); ++i) {
    rows[i / dim * width + static_cast<size_t>(head) * dim + i % dim] += values[i];
  }
}

size_t FirstVisible(const AttentionShape& shape, size_t position) {
  const size_t window = static_cast<size_t>(shape.window);
  return window == 0 || position < window ? 0 : position - window + 1;
}

// Row t of `scores` becomes the softmax of the values up to t that its window has, and zeros.
void CausalSoftmax(std::vector<float>& scores, const AttentionShape& shape, int num_threads) {
  const size_t width = static_cast<size_t>(shape.num_tokens);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  ParallelRows(num_threads, shape.num_tokens, [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      float* row = scores.data() + t * width;
      const size_t begin = FirstVisible(shape, t);
      const float highest = *std::max_element(row + begin, row + t + 1);
      float sum = 0.0f;
      for (size_t j = begin; j <= t; ++j) row[j] = Exp(scale * (row[j] - highest));
      for (size_t j = begin; j <= t; ++j) sum += row[j];
      for (size_t j = begin; j <= t; ++j) row[j] /= sum;
      std::fill(row, row + begin, 0.0f);
      std::fill(row + t + 1, row + width, 0.0f);
    }
  });
}

// The gradient of the scores, over that of the probabilities.
void SoftmaxGradient(const std::vector<float>& probabilities, const AttentionShape& shape,
                     int num_threads, std::vector<float>& gradient) {
  const size_t width = static_cast<size_t>(shape.num_tokens);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  ParallelRows(num_threads, shape.num_tokens, [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const float* p = probabilities.data() + t * width;
      float* row = gradient.data() + t * width;
      float mean = 0.0f;
      for (size_t j = 0; j <= t; ++j) mean += p[j] * row[j];
      for (size_t j = 0; j < width; ++j) row[j] = scale * p[j] * (row[j] - mean);
    }
  });
}

Result<std::vector<float>> Probabilities(Backend& backend, const AttentionShape& shape,
                                         std::span<const float> q, std::span<const float> k,
                                         int num_threads) {
  COMET_ASSIGN_OR_RETURN(std::vector<float> scores,
                         MultiplyByTransposed(backend, q, k, shape.head_dim));
  CausalSoftmax(scores, shape, num_threads);
  return scores;
}

}  // namespace

Result<std::vector<float>> CausalAttention(Backend& backend, const AttentionShape& shape,
                                           const AttentionRows& rows, int num_threads) {
  std::vector<float> out(rows.q.size());
  const int group = shape.num_heads / shape.num_kv_heads;
  for (int head = 0; head < shape.num_heads; ++head) {
    const std::vector<float> q = HeadOf(rows.q, shape, head);
    const std::vector<float> k = HeadOf(rows.k, shape, head / group);
    const std::vector<float> v = HeadOf(rows.v, shape, head / group);
    COMET_ASSIGN_OR_RETURN(const std::vector<float> p,
                           Probabilities(backend, shape, q, k, num_threads));
    COMET_ASSIGN_OR_RETURN(
        const std::vector<float> o,
        MultiplyByTransposed(backend, p, Transposed(v, shape.head_dim), shape.num_tokens));
    AddToHead(o, shape, head, out);
  }
  return out;
}

Result<AttentionRows> CausalAttentionGradient(Backend& backend, const AttentionShape& shape,
                                              const AttentionRows& rows,
                                              std::span<const float> out_gradient,
                                              int num_threads) {
  AttentionRows gradient{.q = std::vector<float>(rows.q.size()),
                         .k = std::vector<float>(rows.k.size()),
                         .v = std::vector<float>(rows.v.size())};
  const int group = shape.num_heads / shape.num_kv_heads;
  const int dim = shape.head_dim;
  const int num_tokens = shape.num_tokens;
  for (int head = 0; head < shape.num_heads; ++head) {
    const int kv_head = head / group;
    const std::vector<float> q = HeadOf(rows.q, shape, head);
    const std::vector<float> k = HeadOf(rows.k, shape, kv_head);
    const std::vector<float> v = HeadOf(rows.v, shape, kv_head);
    const std::vector<float> d_out = HeadOf(out_gradient, shape, head);
    COMET_ASSIGN_OR_RETURN(const std::vector<float> p,
                           Probabilities(backend, shape, q, k, num_threads));
    COMET_ASSIGN_OR_RETURN(std::vector<float> d_scores,
                           MultiplyByTransposed(backend, d_out, v, dim));
    SoftmaxGradient(p, shape, num_threads, d_scores);
    COMET_ASSIGN_OR_RETURN(const std::vector<float> d_q,
                           MultiplyByTransposed(backend, d_scores, Transposed(k, dim), num_tokens));
    COMET_ASSIGN_OR_RETURN(const std::vector<float> d_k,
                           MultiplyByTransposed(backend, Transposed(d_scores, num_tokens),
                                                Transposed(q, dim), num_tokens));
    COMET_ASSIGN_OR_RETURN(const std::vector<float> d_v,
                           MultiplyByTransposed(backend, Transposed(p, num_tokens),
                                                Transposed(d_out, dim), num_tokens));
    AddToHead(d_q, shape, head, gradient.q);
    AddToHead(d_k, shape, kv_head, gradient.k);
    AddToHead(d_v, shape, kv_head, gradient.v);
  }
  return gradient;
}

}  // namespace comet
