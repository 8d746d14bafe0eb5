#include "engine/quantizer/coded_rows.h"

#include <cstdint>
#include <vector>

#include "engine/quantizer/linear_to_host.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/check.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

template <typename T>
Result<std::vector<T>> ToHost(Device& device, const TensorView& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.shape().num_elements()));
  COMET_RETURN_IF_ERROR(device.CopyToHost(values.data(), tensor.data(),
                                          static_cast<int64_t>(values.size() * sizeof(T))));
  return values;
}

COMET_WIDE_VECTORS void DecodeRange(const int8_t* __restrict codes, float scale, size_t count,
                                    float* __restrict out) {
  for (size_t k = 0; k < count; ++k) out[k] = static_cast<float>(codes[k]) * scale;
}

}  // namespace

Result<CodedRows> CodedRows::Make(Backend& backend, const ActivationFormat& format,
                                  std::span<const float> rows, int width) {
  Device& device = *backend.device;
  const int num_rows = static_cast<int>(rows.size() / static_cast<size_t>(width));
  ConstTensorView input(rows.data(), DType::kF32, {num_rows, width});
  DeviceTensor uploaded;
  if (!device.is_host()) {
    COMET_ASSIGN_OR_RETURN(uploaded, DeviceTensor::Upload(device, input));
    input = uploaded.view();
  }
  CodedRows made;
  made.format_ = format;
  COMET_ASSIGN_OR_RETURN(made.codes_,
                         DeviceTensor::Allocate(device, DType::kI8, {num_rows, width}));
  COMET_ASSIGN_OR_RETURN(made.scale_, DeviceTensor::Allocate(device, DType::kF32, {num_rows}));
  COMET_ASSIGN_OR_RETURN(made.exponent_, DeviceTensor::Allocate(device, DType::kI32, {num_rows}));
  COMET_ASSIGN_OR_RETURN(made.code_sum_,
                         DeviceTensor::Allocate(device, DType::kI32, {num_rows, 2}));
  COMET_RETURN_IF_ERROR(backend.ops->Gather({.out = made.view(), .x = input}));
  return made;
}

LinearInput CodedRows::view() const {
  return {.format = format_,
          .codes = codes_.view(),
          .scale = scale_.view(),
          .exponent = exponent_.view(),
          .code_sum = code_sum_.view()};
}

Status CodedRows::Decode(Device& device, int num_threads, std::span<float> rows) const {
  COMET_ASSIGN_OR_RETURN(const std::vector<int8_t> codes, ToHost<int8_t>(device, codes_.view()));
  COMET_ASSIGN_OR_RETURN(const std::vector<float> scale, ToHost<float>(device, scale_.view()));
  COMET_ASSIGN_OR_RETURN(const std::vector<int32_t> exponent,
                         ToHost<int32_t>(device, exponent_.view()));
  COMET_CHECK(codes.size() == rows.size());
  const size_t width = static_cast<size_t>(codes_.view().dim(1));
  const size_t num_int4 = static_cast<size_t>(format_.num_int4_channels);
  ParallelRows(num_threads, static_cast<int>(scale.size()), [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const int8_t* row = codes.data() + t * width;
      float* out = rows.data() + t * width;
      DecodeRange(row, scale[t], num_int4, out);
      DecodeRange(row + num_int4, scale[t] * static_cast<float>(1 << exponent[t]), width - num_int4,
                  out + num_int4);
    }
  });
  return Status::Ok();
}

Result<std::unique_ptr<PackedLinear>> CodedRows::Pack(Backend& backend) const {
  COMET_CHECK(format_.mode == ActivationMode::kInt8 && format_.num_int4_channels == 0);
  Device& device = *backend.device;
  COMET_ASSIGN_OR_RETURN(const std::vector<int8_t> codes, ToHost<int8_t>(device, codes_.view()));
  COMET_ASSIGN_OR_RETURN(const std::vector<float> scale, ToHost<float>(device, scale_.view()));
  return backend.ops->PackLinear(
      Int8Weights{.codes = {codes.data(), DType::kI8, codes_.view().shape()},
                  .scale = {scale.data(), DType::kF32, scale_.view().shape()}});
}

Status AddProductOfCodes(Backend& backend, std::span<const float> a, std::span<const float> b,
                         int num_columns, HostRows& sum) {
  const ActivationFormat format{.mode = ActivationMode::kInt8};
  COMET_ASSIGN_OR_RETURN(const CodedRows left, CodedRows::Make(backend, format, a, num_columns));
  COMET_ASSIGN_OR_RETURN(const CodedRows right, CodedRows::Make(backend, format, b, num_columns));
  COMET_ASSIGN_OR_RETURN(const std::unique_ptr<PackedLinear> packed, right.Pack(backend));
  return AddLinearToHost(backend, left.view(), *packed, sum);
}

}  // namespace comet
