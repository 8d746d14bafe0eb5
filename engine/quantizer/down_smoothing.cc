#include "engine/quantizer/down_smoothing.h"

#include <algorithm>
#include <cmath>

namespace comet {
namespace {

constexpr double kFactorMax = 20.0;
constexpr double kShareMin = 1e-6;  // Of the mean: what a silent channel counts as.

double MeanSquare(std::span<const float> row) {
  double sum = 0.0;
  for (const float value : row) sum += double{value} * double{value};
  return sum / static_cast<double>(row.size());
}

void AddSquares(std::span<const float> row, double factor, std::vector<double>& sums) {
  for (size_t k = 0; k < row.size(); ++k) sums[k] += factor * double{row[k]} * double{row[k]};
}

// Relative to the mean; all 1 where that is 0.
void DivideByMean(std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  for (double& value : values) value = mean > 0.0 ? value / mean + kShareMin : 1.0;
}

}  // namespace

std::vector<float> DownFactors(const FloatLayer& layer, const WindowRows& inputs,
                               const WindowRows& hidden) {
  const size_t width = layer.post_attention_norm.size();
  const size_t ffn = layer.down.size() / width;
  std::vector<double> activity(ffn);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::span<const float> rows = inputs[i];
    for (size_t t = 0; t < rows.size() / ffn; ++t) {
      const double mean_square = MeanSquare(std::span(hidden[i]).subspan(t * width, width));
      if (mean_square > 0.0) AddSquares(rows.subspan(t * ffn, ffn), 1.0 / mean_square, activity);
    }
  }
  std::vector<double> columns(ffn);
  const std::span<const float> down = layer.down;
  for (size_t n = 0; n < width; ++n) AddSquares(down.subspan(n * ffn, ffn), 1.0, columns);
  DivideByMean(activity);
  DivideByMean(columns);
  std::vector<float> factors;
  for (size_t k = 0; k < ffn; ++k) {
    const double factor = std::pow(activity[k] / columns[k], 0.25);
    factors.push_back(static_cast<float>(std::clamp(factor, 1.0 / kFactorMax, kFactorMax)));
  }
  return factors;
}

void SmoothDown(std::span<const float> factors, FloatLayer& layer) {
  const size_t ffn = factors.size();
  const std::span<float> up = std::span(layer.gate_up).last(layer.gate_up.size() / 2);
  const size_t width = up.size() / ffn;
  for (size_t i = 0; i < up.size(); ++i) up[i] /= factors[i / width];
  for (size_t i = 0; i < layer.down.size(); ++i) layer.down[i] *= factors[i % ffn];
}

}  // namespace comet
