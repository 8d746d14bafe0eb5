#include "kernels/ops/linear_input.h"

#include "kernels/base/shape_check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int64_t kWeightMagnitude = 128;  // |gamma * v| and |code| of any weight, at most.

int64_t LargestCode(ActivationMode mode) { return mode == ActivationMode::kMixed ? 7 : 127; }

// The largest magnitude of the exact sum with the INT8 region shifted by `exponent`.
int64_t LargestSum(ActivationMode mode, int num_int4, int num_int8, int exponent) {
  return ((int64_t{num_int8} * 127 * kWeightMagnitude) << exponent) +
         int64_t{num_int4} * LargestCode(mode) * kWeightMagnitude;
}

constexpr int64_t kSumLimit = int64_t{1} << 31;

void CheckFormat(ShapeCheck& check, const ActivationFormat& format, int num_channels) {
  const int num_int4 = format.num_int4_channels;
  check.Require(num_int4 >= 0 && num_int4 <= num_channels, "num_int4_channels is ", num_int4,
                ", expected 0 to ", num_channels);
  check.Require(num_int4 % kBlockChannels == 0, "num_int4_channels is ", num_int4,
                ", expected a multiple of 128");
  check.Require(!format.packs_int4 || format.mode == ActivationMode::kMixed,
                "packs_int4 is set, expected only where codes have 4 bits");
  if (!check.status().ok() || format.mode == ActivationMode::kFloat) return;

  const int num_int8 = num_channels - num_int4;
  check.Require(LargestSum(format.mode, num_int4, num_int8, 0) < kSumLimit, "K is ", num_channels,
                ": a sum can pass 31 bits");
  const int exponent_max = ExponentMax(format.mode, num_int4, num_int8);
  check.Require(format.exponent_max >= 0 && format.exponent_max <= exponent_max, "exponent_max is ",
                format.exponent_max, ", expected 0 to ", exponent_max);
  check.Require(format.clip > 0.0f && format.clip <= 1.0f, "clip is ", format.clip,
                ", expected above 0 and at most 1");
}

}  // namespace

int ExponentMax(ActivationMode mode, int num_int4_channels, int num_int8_channels) {
  int exponent = kExponentMax;
  while (exponent > 0 &&
         LargestSum(mode, num_int4_channels, num_int8_channels, exponent) >= kSumLimit) {
    --exponent;
  }
  return exponent;
}

Status Validate(const char* op, const LinearInput& input) {
  ShapeCheck check(op);
  Dim num_tokens{"num_tokens"};
  Dim num_channels{"K"};
  Dim num_regions{"regions", 2};
  if (input.format.mode == ActivationMode::kFloat) {
    check.Shape("values", input.values, {&num_tokens, &num_channels})
        .DTypeIn("values", input.values, {DType::kF32, DType::kF16})
        .UnitStride("values", input.values);
  } else {
    check.Shape("codes", input.codes, {&num_tokens, &num_channels})
        .Shape("scale", input.scale, {&num_tokens})
        .Shape("exponent", input.exponent, {&num_tokens})
        .Shape("code_sum", input.code_sum, {&num_tokens, &num_regions})
        .DTypeIn("codes", input.codes, {DType::kI8})
        .DTypeIn("scale", input.scale, {DType::kF32})
        .DTypeIn("exponent", input.exponent, {DType::kI32})
        .DTypeIn("code_sum", input.code_sum, {DType::kI32})
        .UnitStride("codes", input.codes)
        .UnitStride("scale", input.scale)
        .UnitStride("exponent", input.exponent)
        .Contiguous("code_sum", input.code_sum);
  }
  if (check.status().ok()) CheckFormat(check, input.format, num_channels.value);
  return check.status();
}

Status RequireByteCodes(const char* op, const ActivationFormat& format) {
  if (!format.packs_int4) return Status::Ok();
  return Unimplemented(StrCat(
      op, ": codes are packed two a byte, expected bytes: this device has no INT4 products"));
}

}  // namespace comet
