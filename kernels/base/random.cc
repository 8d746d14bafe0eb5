#include "kernels/base/random.h"

#include <cmath>
#include <numbers>

namespace comet {

float Random::NextNormal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - static_cast<double>(NextFloat())));
  return static_cast<float>(radius *
                            std::cos(2.0 * std::numbers::pi * static_cast<double>(NextFloat())));
}

}  // namespace comet
