#include "kernels/base/exact_math.h"

#include <bit>
#include <cmath>
#include <cstdint>

namespace comet {

float Exp(float x) {
  using namespace exp_constants;
  if (x < kArgumentMin) x = kArgumentMin;
  if (x > kArgumentMax) x = kArgumentMax;
  if (x != x) return x;

  const float n = (x * kLog2E + kRoundMagic) - kRoundMagic;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float sum = kTaylor[7];
  for (int i = 6; i >= 0; --i) sum = sum * r + kTaylor[i];

  const uint32_t biased_exponent = static_cast<uint32_t>(static_cast<int32_t>(n) + 127);
  return sum * std::bit_cast<float>(biased_exponent << 23);
}

float RoundHalfEven(float x) {
  constexpr float kIntegersFrom = 0x1p+23f;  // Every binary32 at or above it is an integer.
  const float magnitude = std::fabs(x);
  if (!(magnitude < kIntegersFrom)) return x;
  return std::copysign((magnitude + kIntegersFrom) - kIntegersFrom, x);
}

float SumAdjacentLanes(float* lanes) {
  for (int count = kSumLanes / 2; count >= 1; count /= 2) {
    for (int i = 0; i < count; ++i) lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
  }
  return lanes[0];
}

}  // namespace comet
