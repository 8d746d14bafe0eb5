#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/linear.h"

namespace comet {

// out[t, h] = table[ids[t], h], one rounding from scale * code (INT8 table) or the float value.
//
// Shapes    out [num_tokens, hidden_size]; ids [num_tokens] i32; table [vocab_size, hidden_size].
// DTypes    out f32 or f16; table kInt8 or kFloat.
// Errors    kInvalidArgument: a shape, dtype or kind differs from the above. An id outside the
// vocabulary is the caller's bug.
struct EmbeddingArgs {
  TensorView out;
  ConstTensorView ids;
  const PackedLinear* table = nullptr;
};

Status Validate(const EmbeddingArgs& args);

}  // namespace comet
