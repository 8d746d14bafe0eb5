#include "kernels/reference/hadamard.h"

#include <cmath>

namespace comet::reference {

void Hadamard(std::span<float> x) {
  for (size_t stride = 1; stride < x.size(); stride *= 2) {
    for (size_t i = 0; i < x.size(); ++i) {
      if ((i & stride) != 0) continue;
      const float a = x[i];
      const float b = x[i + stride];
      x[i] = a + b;
      x[i + stride] = a - b;
    }
  }
  const float factor = 1.0f / std::sqrt(static_cast<float>(x.size()));
  for (float& value : x) value = value * factor;
}

}  // namespace comet::reference
