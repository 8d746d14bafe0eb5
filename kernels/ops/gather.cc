#include "kernels/ops/gather.h"

#include "kernels/base/shape_check.h"

namespace comet {

Status Validate(const GatherArgs& args) {
  COMET_RETURN_IF_ERROR(Validate("gather", args.out));
  ShapeCheck check("gather");
  Dim num_tokens{"num_tokens", args.out.num_tokens()};
  Dim num_channels{"K", args.out.num_channels()};
  check.Shape("x", args.x, {&num_tokens, &num_channels})
      .DTypeIn("x", args.x, {DType::kF32, DType::kF16})
      .UnitStride("x", args.x);
  if (args.gather.is_present()) {
    check.Shape("gather", args.gather, {&num_channels})
        .DTypeIn("gather", args.gather, {DType::kI32})
        .UnitStride("gather", args.gather);
  }
  return check.status();
}

}  // namespace comet
