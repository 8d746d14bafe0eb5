#pragma once

#include <span>

#include "engine/quantizer/host_rows.h"

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
  HostRows q;
  HostRows k;
  HostRows v;
};

// On the host: heads and tiles of tokens are shared out to `num_threads` threads, what the mask
// hides is not computed, and every sum has one order.

// Causal softmax(q k' / sqrt(head_dim)) v over one window that starts at position 0, fp32:
// [num_tokens, num_heads * head_dim].
HostRows CausalAttention(const AttentionShape& shape, const AttentionRows& rows, int num_threads);

// What `out_gradient`, of the above's result, is in its arguments. Probabilities are computed
// again.
AttentionRows CausalAttentionGradient(const AttentionShape& shape, const AttentionRows& rows,
                                      std::span<const float> out_gradient, int num_threads);

}  // namespace comet
