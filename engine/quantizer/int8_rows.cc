#include "engine/quantizer/int8_rows.h"

#include <algorithm>
#include <cmath>

namespace comet {

Int8Rows QuantizeInt8Rows(std::span<const float> weights, int num_channels) {
  const size_t width = static_cast<size_t>(num_channels);
  Int8Rows rows;
  rows.codes.reserve(weights.size());
  rows.scale.reserve(weights.size() / width);
  double error = 0.0;
  double norm = 0.0;
  for (size_t first = 0; first < weights.size(); first += width) {
    const std::span<const float> row = weights.subspan(first, width);
    float abs_max = 0.0f;
    for (const float weight : row) abs_max = std::max(abs_max, std::abs(weight));
    // A zero row, and one whose scale would be subnormal, keeps a scale of 1 and zero codes.
    const float scale = abs_max / 127.0f > 1e-30f ? abs_max / 127.0f : 1.0f;
    rows.scale.push_back(scale);
    for (const float weight : row) {
      const float code = std::clamp(std::nearbyint(weight / scale), -127.0f, 127.0f);
      rows.codes.push_back(static_cast<int8_t>(code));
      const double difference = double{code * scale} - double{weight};
      error += difference * difference;
      norm += double{weight} * double{weight};
    }
  }
  rows.relative_error = norm > 0.0 ? std::sqrt(error / norm) : 0.0;
  return rows;
}

}  // namespace comet
