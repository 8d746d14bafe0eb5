#include "kernels/ops/rope_append.h"

#include "kernels/base/math.h"
#include "kernels/base/shape_check.h"

namespace comet {

Status Validate(const RopeAppendArgs& args) {
  COMET_RETURN_IF_ERROR(ValidateHeads("rope_append", args.cache, args.num_heads));
  COMET_RETURN_IF_ERROR(Validate("rope_append", args.batch));
  const int head_dim = args.cache.head_dim;
  ShapeCheck check("rope_append");
  Dim num_tokens{"num_tokens", args.batch.num_tokens};
  Dim num_q{"num_heads * head_dim", args.num_heads * head_dim};
  Dim num_qkv{"(num_heads + 2 num_kv_heads) * head_dim",
              (args.num_heads + 2 * args.cache.num_kv_heads) * head_dim};
  Dim positions_max{"positions_max"};
  Dim num_pairs{"rotary_dim / 2"};
  check.Shape("qkv", args.qkv, {&num_tokens, &num_qkv})
      .Shape("q_out", args.q_out, {&num_tokens, &num_q})
      .Shape("cos", args.cos, {&positions_max, &num_pairs})
      .Shape("sin", args.sin, {&positions_max, &num_pairs})
      .DTypeIn("qkv", args.qkv, {DType::kF32, DType::kF16})
      .SameDType("qkv", args.qkv, "q_out", args.q_out)
      .DTypeIn("cos", args.cos, {DType::kF32})
      .DTypeIn("sin", args.sin, {DType::kF32})
      .UnitStride("qkv", args.qkv)
      .UnitStride("q_out", args.q_out)
      .Contiguous("cos", args.cos)
      .Contiguous("sin", args.sin);
  COMET_RETURN_IF_ERROR(check.status());
  check
      .Require(2 * num_pairs.value <= head_dim, "rotary_dim is ", 2 * num_pairs.value,
               ", expected at most head_dim ", head_dim)
      .Require(positions_max.value >= args.batch.context_length_max, "cos has ",
               positions_max.value, " positions, expected at least ", args.batch.context_length_max)
      .Require(!args.hadamard || IsPowerOfTwo(head_dim), "head_dim is ", head_dim,
               ", expected a power of two for the Hadamard");
  return check.status();
}

}  // namespace comet
