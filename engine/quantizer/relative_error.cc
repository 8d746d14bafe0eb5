#include "engine/quantizer/relative_error.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "kernels/base/check.h"
#include "kernels/base/wide_vectors.h"

namespace comet {

// In eight partial sums, added in their order.
COMET_WIDE_VECTORS double RelativeError(std::span<const float> values,
                                        std::span<const float> original) {
  constexpr size_t kLanes = 8;
  COMET_CHECK(values.size() == original.size());
  std::array<double, kLanes> errors{};
  std::array<double, kLanes> norms{};
  const auto add = [&](size_t i, size_t lane) {
    const double difference = double{values[i]} - double{original[i]};
    errors[lane] += difference * difference;
    norms[lane] += double{original[i]} * double{original[i]};
  };
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (size_t i = whole; i < values.size(); ++i) add(i, i - whole);
  const double error = std::accumulate(errors.begin(), errors.end(), 0.0);
  const double norm = std::accumulate(norms.begin(), norms.end(), 0.0);
  return norm > 0.0 ? std::sqrt(error / norm) : 0.0;
}

}  // namespace comet
