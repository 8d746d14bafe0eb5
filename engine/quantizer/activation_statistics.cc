#include "engine/quantizer/activation_statistics.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/quantizer/float_product.h"

namespace comet {
namespace {

// 0 for a row of zeros.
float InverseRootMeanSquare(std::span<const float> row) {
  double sum = 0.0;
  for (const float value : row) sum += double{value} * double{value};
  return sum > 0.0 ? static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(row.size())))
                   : 0.0f;
}

// Multiplies each row by its factor.
void ScaleRows(std::span<const float> factors, std::vector<float>& rows) {
  const size_t width = rows.size() / factors.size();
  for (size_t t = 0; t < factors.size(); ++t) {
    for (size_t k = 0; k < width; ++k) rows[t * width + k] *= factors[t];
  }
}

void AddTo(std::span<const float> values, std::vector<float>& sum) {
  sum.resize(values.size());
  for (size_t i = 0; i < values.size(); ++i) sum[i] += values[i];
}

void AddRange(std::span<const float> rows, size_t width, int sample_stride,
              ActivationStatistics& statistics) {
  statistics.abs_max.resize(width);
  for (size_t first = 0; first < rows.size(); first += width) {
    const std::span<const float> row = rows.subspan(first, width);
    for (size_t k = 0; k < width; ++k) {
      statistics.abs_max[k] = std::max(statistics.abs_max[k], std::abs(row[k]));
    }
    if (statistics.num_tokens % sample_stride == 0) {
      statistics.sample.insert(statistics.sample.end(), row.begin(), row.end());
      ++statistics.num_sample_tokens;
    }
    ++statistics.num_tokens;
  }
}

}  // namespace

float ActivationStatistics::GramFactor() const {
  const size_t n = static_cast<size_t>(num_channels);
  double trace = 0.0;
  for (size_t k = 0; k < n; ++k) trace += double{gram[k * (n + 1)]};
  // All inputs zero: every channel counts the same.
  return trace > 0.0 ? static_cast<float>(static_cast<double>(n) / trace) : 0.0f;
}

std::vector<float> ActivationStatistics::DampedGram(float damping) const {
  const size_t n = static_cast<size_t>(num_channels);
  const float factor = GramFactor();
  std::vector<float> damped(gram.size());
  for (size_t i = 0; i < gram.size(); ++i) damped[i] = factor * gram[i];
  for (size_t k = 0; k < n; ++k) damped[k * (n + 1)] += damping;
  return damped;
}

std::vector<float> ActivationStatistics::Activity() const {
  std::vector<float> activity;
  for (size_t k = 0; k < gram.size(); k += static_cast<size_t>(num_channels) + 1) {
    activity.push_back(gram[k]);
  }
  return activity;
}

Status AddRows(Backend& backend, const CalibrationRows& rows, int num_channels, int sample_stride,
               ActivationStatistics& statistics) {
  const size_t width = static_cast<size_t>(num_channels);
  const size_t num_tokens = rows.inputs.size() / width;
  statistics.num_channels = num_channels;
  AddRange(rows.inputs, width, sample_stride, statistics);

  std::vector<float> factors;
  const size_t weighting_width = rows.weighting.size() / num_tokens;
  for (size_t t = 0; t < num_tokens; ++t) {
    factors.push_back(
        InverseRootMeanSquare(rows.weighting.subspan(t * weighting_width, weighting_width)));
  }
  std::vector<float> inputs(rows.inputs.begin(), rows.inputs.end());
  ScaleRows(factors, inputs);
  const std::vector<float> transposed = Transposed(inputs, num_channels);
  COMET_ASSIGN_OR_RETURN(
      const std::unique_ptr<PackedLinear> packed,
      PackMatrix(backend, transposed, num_channels, static_cast<int>(num_tokens)));
  COMET_ASSIGN_OR_RETURN(const std::vector<float> gram,
                         MultiplyByTransposed(backend, transposed, *packed));
  AddTo(gram, statistics.gram);
  if (!rows.float_inputs.empty()) {
    std::vector<float> drift(rows.float_inputs.begin(), rows.float_inputs.end());
    ScaleRows(factors, drift);
    for (size_t i = 0; i < drift.size(); ++i) drift[i] -= inputs[i];
    COMET_ASSIGN_OR_RETURN(const std::vector<float> product,
                           MultiplyByTransposed(backend, Transposed(drift, num_channels), *packed));
    AddTo(product, statistics.drift);
  }
  if (!rows.gap.empty()) {
    std::vector<float> gap(rows.gap.begin(), rows.gap.end());
    ScaleRows(factors, gap);
    const int gap_width = static_cast<int>(gap.size() / num_tokens);
    COMET_ASSIGN_OR_RETURN(const std::vector<float> product,
                           MultiplyByTransposed(backend, Transposed(gap, gap_width), *packed));
    AddTo(product, statistics.gap);
  }
  return Status::Ok();
}

}  // namespace comet
