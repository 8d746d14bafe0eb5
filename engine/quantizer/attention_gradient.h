#pragma once

#include <span>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct AttentionShape {
  int num_tokens = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int window = 0;  // Positions a query reads, its own included; 0: all.
};

// Queries, keys and values of one window, or the gradients of them: [num_tokens, heads * head_dim].
struct AttentionRows {
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
};

// Causal softmax(q k' / sqrt(head_dim)) v over one window that starts at position 0, fp32:
// [num_tokens, num_heads * head_dim].
Result<std::vector<float>> CausalAttention(Backend& backend, const AttentionShape& shape,
                                           const AttentionRows& rows, int num_threads);

// What `out_gradient`, of the above's result, is in its arguments. Probabilities are computed
// again.
Result<AttentionRows> CausalAttentionGradient(Backend& backend, const AttentionShape& shape,
                                              const AttentionRows& rows,
                                              std::span<const float> out_gradient, int num_threads);

}  // namespace comet
