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
      .UnitStride("gate_up", args.gate_up)
      .Require(args.num_hadamard_channels >= 0 &&
                   args.num_hadamard_channels <= args.out.num_channels() &&
                   args.num_hadamard_channels % kBlockChannels == 0,
               "num_hadamard_channels is ", args.num_hadamard_channels,
               ", expected a multiple of 128 of at most ", args.out.num_channels());
  return check.status();
}

}  // namespace comet
