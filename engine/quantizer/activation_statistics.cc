#include "engine/quantizer/activation_statistics.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"

namespace comet {
namespace {

constexpr double kImportanceFloor = 0.01;  // Share of the mean of all channels.

}  // namespace

std::vector<float> ActivationStatistics::Importance() const {
  double sum = 0;
  for (const double value : sum_sq) sum += value;
  const double count = static_cast<double>(std::max<int64_t>(num_tokens, 1));
  const double floor = kImportanceFloor * sum / count / static_cast<double>(sum_sq.size());
  std::vector<float> importance;
  importance.reserve(sum_sq.size());
  for (const double value : sum_sq) {
    // All inputs zero: every channel counts the same.
    importance.push_back(sum > 0 ? static_cast<float>(std::max(value / count, floor)) : 1.0f);
  }
  return importance;
}

void StatisticsObserver::OnLinearInput(LinearKind kind, const LinearInput& input) {
  COMET_CHECK(input.format.mode == ActivationMode::kFloat && input.values.dtype() == DType::kF32 &&
              input.values.shape().is_contiguous());
  if (!status_.ok()) return;
  host_rows_.resize(static_cast<size_t>(input.values.shape().num_elements()));
  status_ = device_.CopyToHost(host_rows_.data(), input.values.data(),
                               static_cast<int64_t>(host_rows_.size() * sizeof(float)));
  if (!status_.ok()) return;
  Add(host_rows_, input.num_channels(), statistics_[static_cast<size_t>(kind)]);
}

void StatisticsObserver::Add(std::span<const float> rows, int num_channels,
                             ActivationStatistics& statistics) {
  const size_t width = static_cast<size_t>(num_channels);
  statistics.num_channels = num_channels;
  statistics.abs_max.resize(width);
  statistics.sum_sq.resize(width);
  for (size_t first = 0; first < rows.size(); first += width) {
    const std::span<const float> row = rows.subspan(first, width);
    for (size_t k = 0; k < width; ++k) {
      statistics.abs_max[k] = std::max(statistics.abs_max[k], std::abs(row[k]));
      statistics.sum_sq[k] += double{row[k]} * double{row[k]};
    }
    if (statistics.num_tokens % sample_stride_ == 0) {
      statistics.sample.insert(statistics.sample.end(), row.begin(), row.end());
      ++statistics.num_sample_tokens;
    }
    ++statistics.num_tokens;
  }
}

}  // namespace comet
