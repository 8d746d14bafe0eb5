#pragma once

namespace comet {

// Smallest integer at or above a / b, for a >= 0 and b > 0.
template <typename T>
constexpr T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

// Smallest multiple of b at or above a, for a >= 0 and b > 0.
template <typename T>
constexpr T AlignUp(T a, T b) {
  return CeilDiv(a, b) * b;
}

constexpr bool IsPowerOfTwo(int value) { return value > 0 && (value & (value - 1)) == 0; }

}  // namespace comet
