#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {

// Causal attention of a ragged batch over the paged cache; prefill chunks and decode alike. Every
// query reads every key and value, its own chunk's included, as the cache stores them, so chunking
// cannot change results:
//   out[r, h] = sum_p softmax_p(softmax_scale * q[r, h] . K[p, h / group]) V[p, h / group],
//   p = max(0, position(r) - window + 1) .. position(r), from 0 if window is 0
//
// Shapes    q, out [num_tokens, num_heads * head_dim] f32 or f16, the same; rows may be strided.
//           num_heads a multiple of cache.num_kv_heads. scratch [bytes] u8, 16-byte aligned, at
//           best of Ops::AttentionScratchBytes(): speed may depend on it, results do not.
// Numerics  fp32 accumulation, one rounding. The unit is a fixed number of tokens at absolute
//           positions (kGroupTokens, cuda 1024), computed afresh as (max, sum, output) and folded
//           left to right: a query's result does not depend on the batch, the chunking or the
//           number of threads. e^x is Exp of kernels/base/exact_math.h. Between back ends: within
//           1e-3 of the output's largest magnitude (f32: 1e-5). cuda decodes a sequence's only
//           token of a step and takes chunks by another kernel (sm_90: wgmma on keys and values in
//           fp16, tiles of 128 positions): each keeps the promise above, between the two it is as
//           between back ends.
// Aliasing  None.
// Source    Sliding window: Jiang et al. 2023, arXiv:2310.06825.
//           Milakov and Gimelshein 2018, arXiv:1805.02867 (running softmax).
struct AttentionArgs {
  TensorView out;
  ConstTensorView q;
  KvCacheView cache;
  BatchView batch;
  TensorView scratch{};  // Optional.
  int num_heads = 0;
  float softmax_scale = 0.0f;
  int window = 0;  // Positions a query reads, its own included; 0: all up to its own.
};

Status Validate(const AttentionArgs& args);

}  // namespace comet
