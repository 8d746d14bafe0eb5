#include "engine/quantizer/relative_error.h"

#include <cmath>
#include <cstddef>

#include "kernels/base/check.h"

namespace comet {

double RelativeError(std::span<const float> values, std::span<const float> original) {
  COMET_CHECK(values.size() == original.size());
  double error = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double difference = double{values[i]} - double{original[i]};
    error += difference * difference;
    norm += double{original[i]} * double{original[i]};
  }
  return norm > 0.0 ? std::sqrt(error / norm) : 0.0;
}

}  // namespace comet
