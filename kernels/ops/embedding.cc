#include "kernels/ops/embedding.h"

#include "kernels/base/shape_check.h"

namespace comet {

Status Validate(const EmbeddingArgs& args) {
  if (args.table == nullptr) return InvalidArgument("embedding: table is absent");
  ShapeCheck check("embedding");
  Dim num_tokens{"num_tokens"};
  Dim hidden_size{"hidden_size", args.table->num_inputs()};
  check.Shape("out", args.out, {&num_tokens, &hidden_size})
      .Shape("ids", args.ids, {&num_tokens})
      .DTypeIn("out", args.out, {DType::kF32, DType::kF16})
      .DTypeIn("ids", args.ids, {DType::kI32})
      .UnitStride("out", args.out)
      .UnitStride("ids", args.ids)
      .Require(args.table->kind() != WeightKind::kW4ax, "table is w4ax, expected int8 or float");
  if (args.sampled.is_present()) {
    Dim num_sampled{"num_sampled"};
    check.Shape("sampled", args.sampled, {&num_sampled})
        .DTypeIn("sampled", args.sampled, {DType::kI32})
        .UnitStride("sampled", args.sampled);
  }
  return check.status();
}

}  // namespace comet
