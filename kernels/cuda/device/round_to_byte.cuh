#pragma once

#include <cstdint>

namespace comet::cuda {

// round_half_even(x) of |x| < 2^22 in the low byte: adding 1.5 * 2^23 rounds and leaves two's
// complement in the low bits.
__device__ __forceinline__ uint32_t RoundToByte(float x) {
  constexpr float kRoundMagic = 0x1.8p+23f;
  return __float_as_uint(x + kRoundMagic);
}

}  // namespace comet::cuda
