#include "kernels/ops/attention.h"

#include <cmath>

#include "kernels/base/shape_check.h"

namespace comet {

Status Validate(const AttentionArgs& args) {
  COMET_RETURN_IF_ERROR(ValidateHeads("attention", args.cache, args.num_heads));
  COMET_RETURN_IF_ERROR(Validate("attention", args.batch));
  ShapeCheck check("attention");
  Dim num_tokens{"num_tokens", args.batch.num_tokens};
  Dim num_q{"num_heads * head_dim", args.num_heads * args.cache.head_dim};
  check.Shape("q", args.q, {&num_tokens, &num_q})
      .Shape("out", args.out, {&num_tokens, &num_q})
      .DTypeIn("q", args.q, {DType::kF32, DType::kF16})
      .SameDType("q", args.q, "out", args.out)
      .UnitStride("q", args.q)
      .UnitStride("out", args.out)
      .Require(std::isfinite(args.softmax_scale) && args.softmax_scale > 0.0f, "softmax_scale is ",
               args.softmax_scale, ", expected finite and positive")
      .Require(args.window >= 0, "window is ", args.window, ", expected 0 or more");
  if (args.scratch.is_present()) {
    Dim num_bytes{"num_bytes"};
    check.Shape("scratch", args.scratch, {&num_bytes})
        .DTypeIn("scratch", args.scratch, {DType::kU8})
        .UnitStride("scratch", args.scratch);
  }
  return check.status();
}

}  // namespace comet
