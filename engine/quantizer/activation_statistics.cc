#include "engine/quantizer/activation_statistics.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/model/device_tensor.h"
#include "kernels/base/check.h"

namespace comet {
namespace {

// 0 for a row of zeros.
float InverseRootMeanSquare(std::span<const float> row) {
  double sum = 0.0;
  for (const float value : row) sum += double{value} * double{value};
  return sum > 0.0 ? static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(row.size())))
                   : 0.0f;
}

}  // namespace

std::vector<float> ActivationStatistics::DampedGram(float damping) const {
  const size_t n = static_cast<size_t>(num_channels);
  double trace = 0.0;
  for (size_t k = 0; k < n; ++k) trace += double{gram[k * (n + 1)]};
  std::vector<float> damped(gram.size());
  // All inputs zero: every channel counts the same.
  const float factor = trace > 0.0 ? static_cast<float>(static_cast<double>(n) / trace) : 0.0f;
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

void StatisticsObserver::OnLinearInput(LinearKind kind, const LinearInput& input) {
  COMET_CHECK(input.format.mode == ActivationMode::kFloat && input.values.dtype() == DType::kF32 &&
              input.values.shape().is_contiguous());
  if (status_.ok()) status_ = Observe(kind, input);
}

void StatisticsObserver::OnResidual(LinearKind kind, const TensorView& hidden) {
  if (status_.ok()) status_ = Download(hidden, host_residual_);
  if (status_.ok()) {
    status_ = AddGram(host_rows_, host_residual_, statistics_[static_cast<size_t>(kind)]);
  }
}

Status StatisticsObserver::Observe(LinearKind kind, const LinearInput& input) {
  ActivationStatistics& statistics = statistics_[static_cast<size_t>(kind)];
  COMET_RETURN_IF_ERROR(Download(input.values, host_rows_));
  statistics.num_channels = input.num_channels();
  Add(host_rows_, statistics);
  // The others wait for the residual stream.
  if (kind == LinearKind::kO || kind == LinearKind::kDown) return Status::Ok();
  return AddGram(host_rows_, host_rows_, statistics);
}

Status StatisticsObserver::Download(const TensorView& tensor, std::vector<float>& values) {
  values.resize(static_cast<size_t>(tensor.shape().num_elements()));
  return backend_.device->CopyToHost(values.data(), tensor.data(),
                                     static_cast<int64_t>(values.size() * sizeof(float)));
}

void StatisticsObserver::Add(std::span<const float> rows, ActivationStatistics& statistics) {
  const size_t width = static_cast<size_t>(statistics.num_channels);
  statistics.abs_max.resize(width);
  for (size_t first = 0; first < rows.size(); first += width) {
    const std::span<const float> row = rows.subspan(first, width);
    for (size_t k = 0; k < width; ++k) {
      statistics.abs_max[k] = std::max(statistics.abs_max[k], std::abs(row[k]));
    }
    if (statistics.num_tokens % sample_stride_ == 0) {
      statistics.sample.insert(statistics.sample.end(), row.begin(), row.end());
      ++statistics.num_sample_tokens;
    }
    ++statistics.num_tokens;
  }
}

// The product of the transposed rows with themselves is a linear op whose weights are its input.
Status StatisticsObserver::AddGram(std::span<const float> rows, std::span<const float> weighting,
                                   ActivationStatistics& statistics) {
  const int num_channels = statistics.num_channels;
  const size_t width = static_cast<size_t>(num_channels);
  const size_t num_tokens = rows.size() / width;
  const size_t weighting_width = weighting.size() / num_tokens;
  std::vector<float> transposed(rows.size());
  for (size_t t = 0; t < num_tokens; ++t) {
    const float scale =
        InverseRootMeanSquare(weighting.subspan(t * weighting_width, weighting_width));
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
