#include "engine/quantizer/activation_statistics.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/model/device_tensor.h"
#include "kernels/base/check.h"

namespace comet {
namespace {

constexpr double kImportanceFloor = 0.01;  // Share of the mean of all channels.

// 0 for a row of zeros.
float InverseRootMeanSquare(std::span<const float> row) {
  double sum = 0.0;
  for (const float value : row) sum += double{value} * double{value};
  return sum > 0.0 ? static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(row.size())))
                   : 0.0f;
}

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
  if (status_.ok()) status_ = Observe(input, statistics_[static_cast<size_t>(kind)]);
}

Status StatisticsObserver::Observe(const LinearInput& input, ActivationStatistics& statistics) {
  host_rows_.resize(static_cast<size_t>(input.values.shape().num_elements()));
  COMET_RETURN_IF_ERROR(
      backend_.device->CopyToHost(host_rows_.data(), input.values.data(),
                                  static_cast<int64_t>(host_rows_.size() * sizeof(float))));
  statistics.num_channels = input.num_channels();
  Add(host_rows_, statistics);
  return AddGram(host_rows_, statistics);
}

void StatisticsObserver::Add(std::span<const float> rows, ActivationStatistics& statistics) {
  const size_t width = static_cast<size_t>(statistics.num_channels);
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

// The product of the transposed rows with themselves is a linear op whose weights are its input.
Status StatisticsObserver::AddGram(std::span<const float> rows, ActivationStatistics& statistics) {
  const int num_channels = statistics.num_channels;
  const size_t width = static_cast<size_t>(num_channels);
  const size_t num_tokens = rows.size() / width;
  std::vector<float> transposed(rows.size());
  for (size_t t = 0; t < num_tokens; ++t) {
    const float scale = InverseRootMeanSquare(rows.subspan(t * width, width));
    for (size_t k = 0; k < width; ++k) transposed[k * num_tokens + t] = scale * rows[t * width + k];
  }
  const ConstTensorView host(transposed.data(), DType::kF32,
                             {num_channels, static_cast<int>(num_tokens)});
  Device& device = *backend_.device;
  COMET_ASSIGN_OR_RETURN(const DeviceTensor input, DeviceTensor::Upload(device, host));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> weights,
                         backend_.ops->PackLinear(FloatWeights{host}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor product,
                         DeviceTensor::Allocate(device, DType::kF32, {num_channels, num_channels}));
  COMET_RETURN_IF_ERROR(backend_.ops->Linear(
      {.y = product.view(), .x = {.values = input.view()}, .weights = weights.get()}));
  std::vector<float> gram(width * width);
  COMET_RETURN_IF_ERROR(device.CopyToHost(gram.data(), product.view().data(),
                                          static_cast<int64_t>(gram.size() * sizeof(float))));
  statistics.gram.resize(gram.size());
  for (size_t i = 0; i < gram.size(); ++i) statistics.gram[i] += gram[i];
  return Status::Ok();
}

}  // namespace comet
