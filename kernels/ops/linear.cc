#include "kernels/ops/linear.h"

#include <cmath>
#include <cstring>
#include <string_view>

#include "kernels/base/math.h"
#include "kernels/base/shape_check.h"

namespace comet {
namespace {

constexpr int kStepMin = -15;
constexpr int kStepMax = 16;

const float* ScaleAt(const ConstTensorView& scale, int i) { return scale.as<float>() + i; }

void CheckPairing(ShapeCheck& check, const LinearArgs& args) {
  const bool is_float = args.x.format.mode == ActivationMode::kFloat;
  const int num_int4 = args.x.format.num_int4_channels;
  switch (args.weights->kind()) {
    case WeightKind::kW4ax:
      check.Require(!is_float, "x is float, expected codes as the weights are w4ax");
      check.Require(num_int4 == args.weights->num_int4_channels(), "x has ", num_int4,
                    " INT4 channels, expected ", args.weights->num_int4_channels(),
                    " as the weights");
      return;
    case WeightKind::kInt8:
      check.Require(!is_float, "x is float, expected codes as the weights are int8");
      check.Require(num_int4 == 0, "x has ", num_int4,
                    " INT4 channels, expected 0 as the weights are int8");
      return;
    case WeightKind::kFloat:
      check.Require(is_float, "x holds codes, expected values as the weights are float");
      return;
  }
}

}  // namespace

Status Validate(const LinearArgs& args) {
  if (args.weights == nullptr) return InvalidArgument("linear: weights are absent");
  COMET_RETURN_IF_ERROR(Validate("linear", args.x));
  ShapeCheck check("linear");
  Dim num_tokens{"num_tokens", args.x.num_tokens()};
  Dim num_outputs{"N", args.weights->num_outputs()};
  check.Shape("y", args.y, {&num_tokens, &num_outputs})
      .DTypeIn("y", args.y, {DType::kF32, DType::kF16})
      .UnitStride("y", args.y)
      .Require(args.x.num_channels() == args.weights->num_inputs(), "x has ", args.x.num_channels(),
               " channels, expected ", args.weights->num_inputs(), " as the weights");
  if (args.residual.is_present()) {
    check.Shape("residual", args.residual, {&num_tokens, &num_outputs})
        .SameDType("y", args.y, "residual", args.residual)
        .UnitStride("residual", args.residual);
  }
  if (args.bias.is_present()) {
    check.Shape("bias", args.bias, {&num_outputs})
        .DTypeIn("bias", args.bias, {DType::kF32})
        .UnitStride("bias", args.bias);
  }
  CheckPairing(check, args);
  return check.status();
}

Status Validate(const W4axWeights& weights) {
  ShapeCheck check("w4ax_weights");
  Dim num_outputs{"N"};
  Dim num_code_bytes{"K / 2"};
  Dim num_blocks{"B"};
  check.Shape("codes", weights.codes, {&num_outputs, &num_code_bytes})
      .Shape("steps", weights.steps, {&num_outputs, &num_blocks})
      .Shape("scale", weights.scale, {&num_outputs})
      .DTypeIn("codes", weights.codes, {DType::kU8})
      .DTypeIn("steps", weights.steps, {DType::kI8})
      .DTypeIn("scale", weights.scale, {DType::kF32})
      .Contiguous("codes", weights.codes)
      .Contiguous("steps", weights.steps)
      .Contiguous("scale", weights.scale);
  COMET_RETURN_IF_ERROR(check.status());

  const int num_inputs = 2 * num_code_bytes.value;
  const int num_int4 = weights.num_int4_channels;
  check
      .Require(num_blocks.value == CeilDiv(num_inputs, kBlockChannels), "steps have ",
               num_blocks.value, " blocks, expected ", CeilDiv(num_inputs, kBlockChannels),
               " for K ", num_inputs)
      .Require(num_int4 >= 0 && num_int4 <= num_inputs && num_int4 % kBlockChannels == 0,
               "num_int4_channels is ", num_int4, ", expected a multiple of 128 up to ",
               num_inputs);
  const int8_t* steps = weights.steps.as<int8_t>();
  for (int64_t i = 0; i < weights.steps.shape().num_elements() && check.status().ok(); ++i) {
    check.Require(steps[i] >= kStepMin && steps[i] <= kStepMax, "a step is ", int{steps[i]},
                  ", expected -15 to 16");
  }
  for (int n = 0; n < num_outputs.value && check.status().ok(); ++n) {
    const float scale = *ScaleAt(weights.scale, n);
    check.Require(std::isfinite(scale) && scale > 0.0f, "scale of row ", n, " is ", scale,
                  ", expected finite and positive");
  }
  return check.status();
}

Status Validate(const Int8Weights& weights) {
  ShapeCheck check("int8_weights");
  Dim num_outputs{"N"};
  Dim num_inputs{"K"};
  check.Shape("codes", weights.codes, {&num_outputs, &num_inputs})
      .Shape("scale", weights.scale, {&num_outputs})
      .DTypeIn("codes", weights.codes, {DType::kI8})
      .DTypeIn("scale", weights.scale, {DType::kF32})
      .Contiguous("codes", weights.codes)
      .Contiguous("scale", weights.scale);
  COMET_RETURN_IF_ERROR(check.status());

  // A head has 10^9 codes.
  constexpr int8_t kLowest = -128;
  const size_t num_codes = static_cast<size_t>(weights.codes.shape().num_elements());
  if (num_codes > 0 && std::memchr(weights.codes.data(), kLowest, num_codes) != nullptr) {
    return InvalidArgument("int8_weights: a code is -128, expected -127 to 127");
  }
  for (int n = 0; n < num_outputs.value && check.status().ok(); ++n) {
    const float scale = *ScaleAt(weights.scale, n);
    check.Require(std::isfinite(scale), "scale of row ", n, " is ", scale, ", expected finite");
  }
  return check.status();
}

Status Validate(const FloatWeights& weights) {
  ShapeCheck check("float_weights");
  Dim num_outputs{"N"};
  Dim num_inputs{"K"};
  check.Shape("values", weights.values, {&num_outputs, &num_inputs})
      .DTypeIn("values", weights.values, {DType::kF32, DType::kF16, DType::kBf16})
      .UnitStride("values", weights.values);
  return check.status();
}

}  // namespace comet
