#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/base/random.h"

namespace comet {

inline std::vector<float> NormalValues(Random& random, size_t count, float deviation) {
  std::vector<float> values(count);
  for (float& value : values) value = deviation * random.NextNormal();
  return values;
}

inline std::vector<float> NormalValues(size_t count, uint64_t seed) {
  Random random(seed);
  return NormalValues(random, count, 1.0f);
}

}  // namespace comet
