#pragma once

#include <cstddef>
#include <cstdint>

namespace comet {

// 4-bit codes in two's complement, two a byte: an even channel in bits 0-3, the odd one after it in
// bits 4-7.
inline constexpr int kCodeMin = -8;
inline constexpr int kCodeMax = 7;

inline int CodeAt(const uint8_t* packed, size_t channel) {
  const int nibble = channel % 2 == 0 ? packed[channel / 2] & 0xf : packed[channel / 2] >> 4;
  return nibble >= 8 ? nibble - 16 : nibble;
}

inline uint8_t PackCodes(int even, int odd) {
  return static_cast<uint8_t>((even & 0xf) | ((odd & 0xf) << 4));
}

inline void SetCode(uint8_t* packed, size_t channel, int code) {
  const int shift = channel % 2 == 0 ? 0 : 4;
  uint8_t& pair = packed[channel / 2];
  pair = static_cast<uint8_t>((pair & (0xf0 >> shift)) | ((code & 0xf) << shift));
}

}  // namespace comet
