#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/linear.h"

namespace comet {

// out[t, h] = table[id(t), h], one rounding from scale * code (INT8 table) or the float value.
//   id(t) = ids[t], or sampled[-1 - ids[t]] where ids[t] is negative: a token that the step before
//   chose and no host has seen. Where that is negative too (SampleArgs::token of a row that
//   failed), id(t) = 0: the row is for nobody.
//
// Shapes    out [num_tokens, hidden_size]; ids [num_tokens] i32;
//           sampled [num_sampled] i32, optional;
//           table [vocab_size, hidden_size].
// DTypes    out f32 or f16; table kInt8 or kFloat.
// Errors    kInvalidArgument: a shape, dtype or kind differs from the above. An id outside the
//           vocabulary, or a negative one outside sampled, is the caller's bug.
struct EmbeddingArgs {
  TensorView out;
  ConstTensorView ids;
  ConstTensorView sampled{};  // Optional.
  const PackedLinear* table = nullptr;
};

Status Validate(const EmbeddingArgs& args);

// id(t) of a back end that computes on the host.
inline int HostTokenId(const EmbeddingArgs& args, int token_row) {
  const int id = args.ids.as<int32_t>()[token_row];
  if (id >= 0) return id;
  COMET_CHECK(args.sampled.is_present() && -1 - id < args.sampled.dim(0));
  return std::max(args.sampled.as<int32_t>()[-1 - id], 0);
}

}  // namespace comet
