#include "engine/quantizer/activation_rounding.h"

#include <algorithm>
#include <span>

#include "engine/model/device_tensor.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/parallel_rows.h"

namespace comet {
namespace {

template <typename T>
Result<std::vector<T>> Download(Device& device, const DeviceTensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.view().shape().num_elements()));
  COMET_RETURN_IF_ERROR(device.CopyToHost(values.data(), tensor.view().data(),
                                          static_cast<int64_t>(values.size() * sizeof(T))));
  return values;
}

// Rows through the codes of `format`, by the back end's own op.
Status RoundThroughCodes(Backend& backend, const ActivationFormat& format, int num_channels,
                         int num_threads, std::vector<float>& rows) {
  Device& device = *backend.device;
  const int num_tokens = static_cast<int>(rows.size()) / num_channels;
  COMET_ASSIGN_OR_RETURN(
      const DeviceTensor input,
      DeviceTensor::Upload(device, {rows.data(), DType::kF32, {num_tokens, num_channels}}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor codes,
                         DeviceTensor::Allocate(device, DType::kI8, {num_tokens, num_channels}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor scale,
                         DeviceTensor::Allocate(device, DType::kF32, {num_tokens}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor exponent,
                         DeviceTensor::Allocate(device, DType::kI32, {num_tokens}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor code_sum,
                         DeviceTensor::Allocate(device, DType::kI32, {num_tokens, 2}));
  COMET_RETURN_IF_ERROR(backend.ops->Gather({.out = {.format = format,
                                                     .codes = codes.view(),
                                                     .scale = scale.view(),
                                                     .exponent = exponent.view(),
                                                     .code_sum = code_sum.view()},
                                             .x = input.view()}));
  COMET_ASSIGN_OR_RETURN(const std::vector<int8_t> code, Download<int8_t>(device, codes));
  COMET_ASSIGN_OR_RETURN(const std::vector<float> s, Download<float>(device, scale));
  COMET_ASSIGN_OR_RETURN(const std::vector<int32_t> e, Download<int32_t>(device, exponent));
  const size_t width = static_cast<size_t>(num_channels);
  const size_t num_int4 = static_cast<size_t>(format.num_int4_channels);
  ParallelRows(num_threads, num_tokens, [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const int8_t* row_codes = code.data() + t * width;
      float* row = rows.data() + t * width;
      const float s4 = s[t];
      const float s8 = s4 * static_cast<float>(1 << e[t]);
      for (size_t k = 0; k < num_int4; ++k) row[k] = static_cast<float>(row_codes[k]) * s4;
      for (size_t k = num_int4; k < width; ++k) row[k] = static_cast<float>(row_codes[k]) * s8;
    }
  });
  return Status::Ok();
}

}  // namespace

ActivationRounding::ActivationRounding(const QuantizedLinear& linear, bool hadamard)
    : num_channels_(linear.num_inputs),
      num_int4_(linear.precision.num_int4_channels),
      clip_(linear.precision.clip),
      hadamard_(hadamard),
      gather_(linear.gather) {}

void ActivationRounding::ToLayer(int num_threads, std::vector<float>& rows) const {
  const size_t width = static_cast<size_t>(num_channels_);
  ParallelRows(num_threads, static_cast<int>(rows.size() / width), [&](int first, int last) {
    std::vector<float> plain(width);
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const std::span<float> row = std::span(rows).subspan(t * width, width);
      if (!gather_.empty()) {
        std::ranges::copy(row, plain.begin());
        for (size_t j = 0; j < width; ++j) row[j] = plain[static_cast<size_t>(gather_[j])];
      }
      if (hadamard_) HadamardBlocks(row, num_channels_, num_int4_);
    }
  });
}

void ActivationRounding::FromLayer(int num_threads, std::vector<float>& rows) const {
  const size_t width = static_cast<size_t>(num_channels_);
  ParallelRows(num_threads, static_cast<int>(rows.size() / width), [&](int first, int last) {
    std::vector<float> ordered(width);
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const std::span<float> row = std::span(rows).subspan(t * width, width);
      if (hadamard_) HadamardBlocks(row, num_channels_, num_int4_);
      if (gather_.empty()) continue;
      std::ranges::copy(row, ordered.begin());
      for (size_t j = 0; j < width; ++j) row[static_cast<size_t>(gather_[j])] = ordered[j];
    }
  });
}

Status ActivationRounding::Round(Backend& backend, ActivationMode mode, int num_threads,
                                 std::vector<float>& rows) const {
  if (mode == ActivationMode::kFloat) return Status::Ok();
  ToLayer(num_threads, rows);
  const ActivationFormat format{
      .mode = mode,
      .num_int4_channels = num_int4_,
      .exponent_max = ExponentMax(mode, num_int4_, num_channels_ - num_int4_),
      .clip = clip_};
  COMET_RETURN_IF_ERROR(RoundThroughCodes(backend, format, num_channels_, num_threads, rows));
  FromLayer(num_threads, rows);
  return Status::Ok();
}

}  // namespace comet
