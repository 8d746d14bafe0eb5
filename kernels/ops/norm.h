#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/linear_input.h"

namespace comet {

// Root-mean-square norm of each token, its channels put in the order of the next linear layer, held
// in that layer's activation format:
//   n[t, h] = (x[t, h] * r[t]) * weight[h],  r[t] = 1 / sqrt(mean_h(x[t, h]^2) + epsilon)
//   out[i, j] = Quantise(n[rows[i], gather[j]])    (see LinearInput; kFloat: one rounding)
//
// Shapes    x [num_tokens, hidden_size] f32 or f16, rows may be strided; weight [hidden_size] f32;
//           gather [hidden_size] i32, a permutation, optional (identity); rows [out rows] i32
//           within num_tokens, optional (identity: out has num_tokens rows); out K = hidden_size.
// Numerics  fp32, single IEEE operations. The sum of squares: 1024 lanes, lane j adds x[h]^2
//           (the product rounded, then added) for h = j mod 1024 ascending; then adjacent lanes are
//           added pairwise, lane 2i + lane 2i+1, ten times. Mean is sum / float(hidden_size).
// Aliasing  None.
// Source    Zhang and Sennrich 2019, arXiv:1910.07467.
struct RmsNormArgs {
  LinearInput out;
  ConstTensorView x;
  ConstTensorView weight;
  ConstTensorView gather;  // Optional.
  ConstTensorView rows;    // Optional: the tokens wanted, as for the logits of a step.
  float epsilon = 0.0f;    // In squared units of x; published models use 1e-6 or 1e-5.
};

Status Validate(const RmsNormArgs& args);

}  // namespace comet
