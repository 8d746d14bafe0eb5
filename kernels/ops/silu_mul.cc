#include "kernels/ops/silu_mul.h"

#include "kernels/base/shape_check.h"

namespace comet {

Status Validate(const SiluMulArgs& args) {
  COMET_RETURN_IF_ERROR(Validate("silu_mul", args.out));
  ShapeCheck check("silu_mul");
  Dim num_tokens{"num_tokens", args.out.num_tokens()};
  Dim num_gate_up{"2 * ffn_size", 2 * args.out.num_channels()};
  check.Shape("gate_up", args.gate_up, {&num_tokens, &num_gate_up})
      .DTypeIn("gate_up", args.gate_up, {DType::kF32, DType::kF16})
      .UnitStride("gate_up", args.gate_up);
  return check.status();
}

}  // namespace comet
