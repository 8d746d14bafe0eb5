#pragma once

#include <cmath>

namespace comet::cpu {

// H x / sqrt(size) in place, Sylvester order, for a size that is a power of two.
inline void Hadamard(float* x, int size) {
  for (int stride = 1; stride < size; stride *= 2) {
    for (int first = 0; first < size; first += 2 * stride) {
      for (int i = first; i < first + stride; ++i) {
        const float a = x[i];
        const float b = x[i + stride];
        x[i] = a + b;
        x[i + stride] = a - b;
      }
    }
  }
  const float factor = 1.0f / std::sqrt(static_cast<float>(size));
  for (int i = 0; i < size; ++i) x[i] = x[i] * factor;
}

}  // namespace comet::cpu
