#include "kernels/ops/norm.h"

#include <cmath>

#include "kernels/base/shape_check.h"

namespace comet {

Status Validate(const RmsNormArgs& args) {
  COMET_RETURN_IF_ERROR(Validate("rms_norm", args.out));
  ShapeCheck check("rms_norm");
  Dim num_rows{"num_rows", args.out.num_tokens()};
  Dim num_tokens{"num_tokens"};
  Dim hidden_size{"hidden_size", args.out.num_channels()};
  if (args.rows.is_present()) {
    check.Shape("rows", args.rows, {&num_rows})
        .DTypeIn("rows", args.rows, {DType::kI32})
        .UnitStride("rows", args.rows);
  } else {
    num_tokens.value = num_rows.value;
  }
  check.Shape("x", args.x, {&num_tokens, &hidden_size})
      .Shape("weight", args.weight, {&hidden_size})
      .DTypeIn("x", args.x, {DType::kF32, DType::kF16})
      .DTypeIn("weight", args.weight, {DType::kF32})
      .UnitStride("x", args.x)
      .UnitStride("weight", args.weight)
      .Require(args.epsilon > 0.0f && std::isfinite(args.epsilon), "epsilon is not positive");
  if (args.gather.is_present()) {
    check.Shape("gather", args.gather, {&hidden_size})
        .DTypeIn("gather", args.gather, {DType::kI32})
        .UnitStride("gather", args.gather);
  }
  return check.status();
}

}  // namespace comet
