#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/linear_input.h"

namespace comet {

// The gated activation of LLaMA's feed-forward layer, in the format of down_proj:
//   h[t, j] = (g / (1 + Exp(-g))) * u,  g = gate_up[t, j], u = gate_up[t, ffn_size + j]
//   out[t, j] = Quantise(h[t, j])    (see LinearInput; kFloat: one rounding)
// down_proj's channel order is folded into the rows of gate and up.
//
// Shapes    gate_up [num_tokens, 2 * ffn_size] f32 or f16, rows may be strided; out K = ffn_size.
// Numerics  fp32, single IEEE operations; Exp of kernels/base/exact_math.h.
// Aliasing  None.
// Source    Shazeer 2020, arXiv:2002.05202.
struct SiluMulArgs {
  LinearInput out;
  ConstTensorView gate_up;
};

Status Validate(const SiluMulArgs& args);

}  // namespace comet
