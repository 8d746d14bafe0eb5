#include "kernels/ops/random_linear.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "kernels/base/math.h"
#include "kernels/base/shape_check.h"

namespace comet {
namespace {

using random_linear::SeedOf;
using random_linear::Stream;

size_t NumElements(int num_rows, int num_columns) {
  return static_cast<size_t>(num_rows) * static_cast<size_t>(num_columns);
}

std::vector<uint8_t> MakeBytes(const RandomLinear& linear, Stream stream, size_t count) {
  const uint64_t seed = SeedOf(linear.seed, stream);
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; i += 8) {
    const uint64_t bits = MixBits(seed + i / 8);  // Little endian, as ByteAt() takes it.
    std::memcpy(bytes.data() + i, &bits, std::min<size_t>(8, count - i));
  }
  return bytes;
}

}  // namespace

float random_linear::ScaleUnit(const RandomLinear& linear) {
  // Root mean squares: v uniform in -8..7, gamma in 8..15; codes uniform in -127..127.
  constexpr double kW4axRms = 4.637 * 11.73;
  constexpr double kInt8Rms = 73.3;
  const double rms = linear.kind == WeightKind::kW4ax ? kW4axRms : kInt8Rms;
  return static_cast<float>(linear.gain / (rms * std::sqrt(linear.num_inputs)));
}

Status Validate(const RandomLinear& linear) {
  ShapeCheck check("random_linear");
  check.Require(linear.num_outputs >= 1, "num_outputs is ", linear.num_outputs, ", expected 1 on")
      .Require(linear.num_inputs >= 2 && linear.num_inputs % 2 == 0, "num_inputs is ",
               linear.num_inputs, ", expected a positive even number");
  return check.status();
}

HostRandomLinear MakeHostRandomLinear(const RandomLinear& linear) {
  HostRandomLinear made{.linear = linear, .codes = {}, .steps = {}, .scale = {}, .values = {}};
  const size_t num_weights = NumElements(linear.num_outputs, linear.num_inputs);
  if (linear.kind == WeightKind::kFloat) {
    const std::vector<uint8_t> bytes = MakeBytes(linear, Stream::kCodes, 2 * num_weights);
    made.values.reserve(num_weights);
    for (size_t i = 0; i < num_weights; ++i) {
      made.values.push_back(HalfFromFloat(random_linear::ValueOf(bytes[2 * i], bytes[2 * i + 1])));
    }
    return made;
  }
  const bool is_int8 = linear.kind == WeightKind::kInt8;
  made.codes = MakeBytes(linear, Stream::kCodes, is_int8 ? num_weights : num_weights / 2);
  if (is_int8) {
    for (uint8_t& code : made.codes) {
      code = static_cast<uint8_t>(random_linear::Int8CodeOf(code));
    }
  } else {
    const int num_blocks = CeilDiv(linear.num_inputs, kBlockChannels);
    for (const uint8_t byte :
         MakeBytes(linear, Stream::kSteps, NumElements(linear.num_outputs, num_blocks))) {
      made.steps.push_back(random_linear::StepOf(byte));
    }
  }
  const float unit = random_linear::ScaleUnit(linear);
  for (const uint8_t byte :
       MakeBytes(linear, Stream::kScale, static_cast<size_t>(linear.num_outputs))) {
    made.scale.push_back(random_linear::ScaleOf(byte, unit));
  }
  return made;
}

W4axWeights HostRandomLinear::w4ax() const {
  const int num_blocks = CeilDiv(linear.num_inputs, kBlockChannels);
  return {.codes = {codes.data(), DType::kU8, {linear.num_outputs, linear.num_inputs / 2}},
          .steps = {steps.data(), DType::kI8, {linear.num_outputs, num_blocks}},
          .scale = {scale.data(), DType::kF32, {linear.num_outputs}},
          .num_int4_channels = linear.num_int4_channels};
}

Int8Weights HostRandomLinear::int8() const {
  return {.codes = {codes.data(), DType::kI8, {linear.num_outputs, linear.num_inputs}},
          .scale = {scale.data(), DType::kF32, {linear.num_outputs}}};
}

FloatWeights HostRandomLinear::floats() const {
  return {.values = {values.data(), DType::kF16, {linear.num_outputs, linear.num_inputs}}};
}

}  // namespace comet
