#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/linear_input.h"

namespace comet {

// Puts the channels of each token in the order and format of the next linear layer:
//   out[t, j] = Quantise(x[t, gather[j]])    (see LinearInput; kFloat: one rounding)
//
// Shapes    x [num_tokens, K] f32 or f16, rows may be strided;
//           gather [K] i32, a permutation, optional.
// Aliasing  None.
struct GatherArgs {
  LinearInput out;
  ConstTensorView x;
  ConstTensorView gather{};  // Optional: identity.
};

Status Validate(const GatherArgs& args);

}  // namespace comet
