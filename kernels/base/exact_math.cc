#include "kernels/base/exact_math.h"

#include <cmath>

#include "kernels/base/exact_exp.h"

namespace comet {

float Exp(float x) { return InlineExp(x); }

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
