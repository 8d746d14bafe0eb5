#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {

// Rotates queries and keys by position, optionally applies a Hadamard to both, and stores keys and
// values in the cache.
//   (a, b) = (x[i], x[i + rotary_dim / 2]), i < rotary_dim / 2, c = cos[p, i], s = sin[p, i]:
//   x'[i] = a * c - b * s,  x'[i + rotary_dim / 2] = b * c + a * s;  channels past rotary_dim stay
//   Hadamard: x'' = H x' / sqrt(head_dim), Sylvester order, as log2(head_dim) passes of
//   (a + b, a - b) with stride 1, 2, 4 ..., then one multiplication by 1 / sqrt(head_dim).
//   q_out = x'' of the query heads, one rounding; keys and values go to the cache through KvFormat.
//
// Shapes    qkv [num_tokens, (num_heads + 2 num_kv_heads) * head_dim] f32 or f16, q | k | v, rows
//           may be strided; q_out [num_tokens, num_heads * head_dim], dtype of qkv;
//           cos, sin [positions_max, rotary_dim / 2] f32, made on the host and written by no op.
//           head_dim a power of two when hadamard is set, even otherwise.
// Numerics  fp32, single IEEE operations, none contracted. 1 / sqrt(head_dim) is one square root
//           and one division.
// Aliasing  q_out may be the query part of qkv.
// Source    Su et al. 2021, arXiv:2104.09864; QuaRot (arXiv:2404.00456) for the Hadamard.
struct RopeAppendArgs {
  TensorView q_out;
  KvCacheView cache;
  ConstTensorView qkv;
  ConstTensorView cos;
  ConstTensorView sin;
  BatchView batch;
  int num_heads = 0;
  bool hadamard = false;
};

Status Validate(const RopeAppendArgs& args);

}  // namespace comet
