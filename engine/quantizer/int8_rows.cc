#include "engine/quantizer/int8_rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/quantizer/parallel_rows.h"

namespace comet {

Int8Rows QuantizeInt8Rows(std::span<const float> weights, int num_channels, int num_threads) {
  const size_t width = static_cast<size_t>(num_channels);
  const size_t num_rows = weights.size() / width;
  Int8Rows rows;
  rows.codes.resize(weights.size());
  rows.scale.resize(num_rows);
  std::vector<double> errors(num_rows);
  std::vector<double> norms(num_rows);
  ParallelRows(num_threads, static_cast<int>(num_rows), [&](int first, int last) {
    for (size_t n = static_cast<size_t>(first); n < static_cast<size_t>(last); ++n) {
      const std::span<const float> row = weights.subspan(n * width, width);
      float abs_max = 0.0f;
      for (const float weight : row) abs_max = std::max(abs_max, std::abs(weight));
      // A zero row, and one whose scale would be subnormal, keeps a scale of 1 and zero codes.
      const float scale = abs_max / 127.0f > 1e-30f ? abs_max / 127.0f : 1.0f;
      rows.scale[n] = scale;
      for (size_t k = 0; k < width; ++k) {
        const float code = std::clamp(std::nearbyint(row[k] / scale), -127.0f, 127.0f);
        rows.codes[n * width + k] = static_cast<int8_t>(code);
        const double difference = double{code * scale} - double{row[k]};
        errors[n] += difference * difference;
        norms[n] += double{row[k]} * double{row[k]};
      }
    }
  });
  const double error = std::accumulate(errors.begin(), errors.end(), 0.0);
  const double norm = std::accumulate(norms.begin(), norms.end(), 0.0);
  rows.relative_error = norm > 0.0 ? std::sqrt(error / norm) : 0.0;
  return rows;
}

}  // namespace comet
