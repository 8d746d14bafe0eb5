#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/random.h"
#include "kernels/base/status.h"
#include "kernels/ops/linear.h"

namespace comet {

// Random weights of one linear layer or table, for benches and tests: every element is a function
// of `seed` and its place alone, so all back ends make the same ones wherever they make them.
struct RandomLinear {
  WeightKind kind = WeightKind::kW4ax;
  int num_outputs = 0;
  int num_inputs = 0;         // Even.
  int num_int4_channels = 0;  // kW4ax
  uint64_t seed = 0;
  float gain = 1.0f;  // About the deviation of an output over an input's; kFloat ignores it.
};

// The elements, in the order of W4axWeights, Int8Weights and FloatWeights, row-major. Codes are
// uniform; steps are +-8..15, a sign a block, so that no mean adds up; kFloat is f16 in [-1, 1).
namespace random_linear {

enum class Stream : uint64_t { kCodes, kSteps, kScale };

constexpr uint64_t SeedOf(uint64_t seed, Stream stream) {
  return MixBits(4 * seed + static_cast<uint64_t>(stream));
}
// Byte i of a stream of which MixBits() gives eight at a time.
constexpr uint8_t ByteAt(uint64_t stream_seed, uint64_t i) {
  return static_cast<uint8_t>(MixBits(stream_seed + i / 8) >> (i % 8 * 8));
}
constexpr int8_t StepOf(uint8_t byte) {
  const int magnitude = 8 + (byte & 7);
  return static_cast<int8_t>((byte & 8) != 0 ? -magnitude : magnitude);
}
// Between 3/4 and 5/4 of `unit`.
constexpr float ScaleOf(uint8_t byte, float unit) {
  return unit * (static_cast<float>(384 + byte) * 0x1p-9f);
}
constexpr int8_t Int8CodeOf(uint8_t byte) {
  return byte == 0x80 ? int8_t{0} : static_cast<int8_t>(byte);  // -128 is no code.
}
// A multiple of 2^-10: f16 holds it exactly.
constexpr float ValueOf(uint8_t low, uint8_t high) {
  return static_cast<float>(static_cast<int16_t>(low | high << 8) >> 5) * 0x1p-10f;
}
// The scale that gives `linear` its gain.
float ScaleUnit(const RandomLinear& linear);

}  // namespace random_linear

// The weights in host memory; what their kind does not use is empty.
struct HostRandomLinear {
  RandomLinear linear;
  std::vector<uint8_t> codes;
  std::vector<int8_t> steps;
  std::vector<float> scale;
  std::vector<Half> values;

  W4axWeights w4ax() const;
  Int8Weights int8() const;
  FloatWeights floats() const;
};
HostRandomLinear MakeHostRandomLinear(const RandomLinear& linear);

Status Validate(const RandomLinear& linear);

}  // namespace comet
