#pragma once

#include "kernels/base/exact_math.h"

namespace comet::cuda {

// Exp() of kernels/base/exact_math.h, bit for bit, for x within its bounds.
__device__ __forceinline__ float ExpInBounds(float x) {
  using namespace exp_constants;
  constexpr float kTaylor2 = kTaylor[2];
  constexpr float kTaylor3 = kTaylor[3];
  constexpr float kTaylor4 = kTaylor[4];
  constexpr float kTaylor5 = kTaylor[5];
  constexpr float kTaylor6 = kTaylor[6];
  constexpr float kTaylor7 = kTaylor[7];
  const float shifted = x * kLog2E + kRoundMagic;
  const float n = shifted - kRoundMagic;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float sum = kTaylor7;
  sum = sum * r + kTaylor6;
  sum = sum * r + kTaylor5;
  sum = sum * r + kTaylor4;
  sum = sum * r + kTaylor3;
  sum = sum * r + kTaylor2;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  // The low bits of `shifted` are n in two's complement; its other bits leave at the top.
  return sum * __int_as_float((__float_as_int(shifted) << 23) + __float_as_int(1.0f));
}

// Exp(), bit for bit, but that NaN gives Exp(-87): two minima in the place of two comparisons and
// selections.
__device__ __forceinline__ float ExpOfNumber(float x) {
  return ExpInBounds(fminf(fmaxf(x, exp_constants::kArgumentMin), exp_constants::kArgumentMax));
}

}  // namespace comet::cuda
