#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/linear_input.h"

namespace comet {

// The gated activation of LLaMA's feed-forward layer, in the format of down_proj:
//   h[t, j] = (g / (1 + Exp(-g))) * u,  g = gate_up[t, j], u = gate_up[t, ffn_size + j]
//   each 128 of the first num_hadamard_channels: h' = H h / sqrt(128), Sylvester order, as seven
//   passes of (a + b, a - b) with stride 1, 2, 4 ... 64, then one multiplication by 1 / sqrt(128)
//   out[t, j] = Quantise(h'[t, j])    (see LinearInput; kFloat: one rounding)
// down_proj's channel order is folded into the rows of gate and up, the Hadamard, which is its own
// inverse, into its columns: it spreads the few large products of a token over 128 INT4 channels.
//
// Shapes    gate_up [num_tokens, 2 * ffn_size] f32 or f16, rows may be strided; out K = ffn_size.
//           num_hadamard_channels a multiple of 128, at most ffn_size.
// Numerics  fp32, single IEEE operations, none contracted; Exp of kernels/base/exact_math.h.
// Aliasing  None.
// Source    Shazeer 2020, arXiv:2002.05202; QuaRot (arXiv:2404.00456) for the Hadamard.
struct SiluMulArgs {
  LinearInput out;
  ConstTensorView gate_up;
  int num_hadamard_channels = 0;
};

Status Validate(const SiluMulArgs& args);

}  // namespace comet
