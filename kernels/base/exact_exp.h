#pragma once

#include <bit>
#include <cstdint>

#include "kernels/base/exact_math.h"

namespace comet {

// Exp() where it is called, so that the compiler makes vectors of a loop over it.
inline float InlineExp(float x) {
  using namespace exp_constants;
  x = x < kArgumentMin ? kArgumentMin : x;
  x = x > kArgumentMax ? kArgumentMax : x;
  const float n = (x * kLog2E + kRoundMagic) - kRoundMagic;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float sum = kTaylor[7];
  sum = sum * r + kTaylor[6];
  sum = sum * r + kTaylor[5];
  sum = sum * r + kTaylor[4];
  sum = sum * r + kTaylor[3];
  sum = sum * r + kTaylor[2];
  sum = sum * r + kTaylor[1];
  sum = sum * r + kTaylor[0];
  // A NaN has no exponent to convert, and `sum` is NaN already.
  const int32_t exponent = static_cast<int32_t>(n == n ? n : 0.0f);
  return sum * std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

}  // namespace comet
