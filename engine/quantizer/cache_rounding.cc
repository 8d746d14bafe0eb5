#include "engine/quantizer/cache_rounding.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/dtype.h"

namespace comet {

void RoundThroughCache(std::span<float> row, int bits) {
  if (bits >= 16) return;
  const float levels = static_cast<float>((1 << bits) - 1);
  const auto [low, high] = std::ranges::minmax(row);
  const float scale = ToFloat(HalfFromFloat((high - low) / levels));
  const float minimum = ToFloat(HalfFromFloat(low));
  for (float& value : row) {
    float code = 0.0f;
    if (scale > 0.0f) {
      code = std::clamp(std::nearbyint((value - minimum) / scale), 0.0f, levels);
    }
    value = scale * code + minimum;
  }
}

void HadamardRow(std::span<float> row) {
  for (size_t stride = 1; stride < row.size(); stride *= 2) {
    for (size_t first = 0; first < row.size(); first += 2 * stride) {
      for (size_t i = first; i < first + stride; ++i) {
        const float a = row[i];
        const float b = row[i + stride];
        row[i] = a + b;
        row[i + stride] = a - b;
      }
    }
  }
  const float factor = 1.0f / std::sqrt(static_cast<float>(row.size()));
  for (float& value : row) value *= factor;
}

}  // namespace comet
