#include "engine/quantizer/triangular.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

constexpr size_t kLanes = 16;  // Partial sums of a dot product: the compiler keeps them in vectors.
constexpr size_t kPanel = 64;  // Columns factored between two barriers.
constexpr float kPivotMin = 1e-12f;

COMET_WIDE_VECTORS float Dot(const float* a, const float* b, size_t count) {
  std::array<float, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0.0f;
  for (; i < count; ++i) sum += a[i] * b[i];
  for (const float lane_sum : sums) sum += lane_sum;
  return sum;
}

}  // namespace

void FactorLower(std::vector<float>& matrix, size_t n, int num_threads) {
  const auto row = [&](size_t i) { return matrix.data() + i * n; };
  for (size_t panel = 0; panel < n; panel += kPanel) {
    const size_t panel_end = std::min(panel + kPanel, n);
    for (size_t i = panel; i < panel_end; ++i) {
      for (size_t j = panel; j < i; ++j)
        row(i)[j] = (row(i)[j] - Dot(row(i), row(j), j)) / row(j)[j];
      row(i)[i] = std::sqrt(std::max(row(i)[i] - Dot(row(i), row(i), i), kPivotMin));
    }
    // The rows below need nothing but the panel's rows and themselves.
    ParallelRows(num_threads, static_cast<int>(n - panel_end), [&](int first, int last) {
      for (size_t i = panel_end + static_cast<size_t>(first);
           i < panel_end + static_cast<size_t>(last); ++i) {
        for (size_t j = panel; j < panel_end; ++j) {
          row(i)[j] = (row(i)[j] - Dot(row(i), row(j), j)) / row(j)[j];
        }
      }
    });
  }
}

std::vector<float> InvertLower(const std::vector<float>& lower, size_t n, int num_threads) {
  // Column c of the inverse solves L x = e_c from row c on; kept as row c of the transpose.
  std::vector<float> transposed(n * n);
  ParallelRows(num_threads, static_cast<int>(n), [&](int first, int last) {
    for (size_t c = static_cast<size_t>(first); c < static_cast<size_t>(last); ++c) {
      float* x = transposed.data() + c * n;
      x[c] = 1.0f / lower[c * (n + 1)];
      for (size_t i = c + 1; i < n; ++i) {
        x[i] = -Dot(lower.data() + i * n + c, x + c, i - c) / lower[i * (n + 1)];
      }
    }
  });
  std::vector<float> inverse(n * n);
  for (size_t c = 0; c < n; ++c) {
    for (size_t i = c; i < n; ++i) inverse[i * n + c] = transposed[c * n + i];
  }
  return inverse;
}

}  // namespace comet
