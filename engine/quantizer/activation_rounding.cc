#include "engine/quantizer/activation_rounding.h"

#include <utility>

#include "engine/model/device_tensor.h"
#include "engine/quantizer/channel_order.h"
#include "engine/quantizer/linear_quantizer.h"

namespace comet {
namespace {

// The inverse of PermuteColumns().
std::vector<float> UnpermuteColumns(const std::vector<float>& rows,
                                    const std::vector<int32_t>& gather) {
  std::vector<float> plain(rows.size());
  for (size_t first = 0; first < rows.size(); first += gather.size()) {
    for (size_t j = 0; j < gather.size(); ++j) {
      plain[first + static_cast<size_t>(gather[j])] = rows[first + j];
    }
  }
  return plain;
}

template <typename T>
Result<std::vector<T>> Download(Device& device, const DeviceTensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.view().shape().num_elements()));
  COMET_RETURN_IF_ERROR(device.CopyToHost(values.data(), tensor.view().data(),
                                          static_cast<int64_t>(values.size() * sizeof(T))));
  return values;
}

// Rows through the codes of `format`, by the back end's own op.
Status RoundThroughCodes(Backend& backend, const ActivationFormat& format, int num_channels,
                         std::vector<float>& rows) {
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
  for (size_t t = 0; t < s.size(); ++t) {
    const float s8 = s[t] * static_cast<float>(1 << e[t]);
    for (size_t k = 0; k < width; ++k) {
      rows[t * width + k] = static_cast<float>(code[t * width + k]) * (k < num_int4 ? s[t] : s8);
    }
  }
  return Status::Ok();
}

}  // namespace

ActivationRounding::ActivationRounding(const QuantizedLinear& linear, bool hadamard)
    : num_channels_(linear.num_inputs),
      num_int4_(linear.precision.num_int4_channels),
      clip_(linear.precision.clip),
      hadamard_(hadamard),
      gather_(linear.gather) {}

Status ActivationRounding::Round(Backend& backend, ActivationMode mode,
                                 std::vector<float>& rows) const {
  if (mode == ActivationMode::kFloat) return Status::Ok();
  if (!gather_.empty()) rows = PermuteColumns(rows, gather_);
  if (hadamard_) HadamardBlocks(rows, num_channels_, num_int4_);
  const ActivationFormat format{
      .mode = mode,
      .num_int4_channels = num_int4_,
      .exponent_max = ExponentMax(mode, num_int4_, num_channels_ - num_int4_),
      .clip = clip_};
  COMET_RETURN_IF_ERROR(RoundThroughCodes(backend, format, num_channels_, rows));
  if (hadamard_) HadamardBlocks(rows, num_channels_, num_int4_);
  if (!gather_.empty()) rows = UnpermuteColumns(rows, gather_);
  return Status::Ok();
}

}  // namespace comet
