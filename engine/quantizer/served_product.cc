#include "engine/quantizer/served_product.h"

#include <algorithm>

#include "engine/model/device_tensor.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/parallel_rows.h"

namespace comet {

Status MultiplyCodes(Backend& backend, const ActivationFormat& format, std::span<const float> rows,
                     const PackedLinear& weights, HostRows& product) {
  Device& device = *backend.device;
  const int num_channels = weights.num_inputs();
  const int num_tokens = static_cast<int>(rows.size()) / num_channels;
  ConstTensorView input(rows.data(), DType::kF32, {num_tokens, num_channels});
  DeviceTensor uploaded;
  if (!device.is_host()) {
    COMET_ASSIGN_OR_RETURN(uploaded, DeviceTensor::Upload(device, input));
    input = uploaded.view();
  }
  COMET_ASSIGN_OR_RETURN(const DeviceTensor codes,
                         DeviceTensor::Allocate(device, DType::kI8, {num_tokens, num_channels}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor scale,
                         DeviceTensor::Allocate(device, DType::kF32, {num_tokens}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor exponent,
                         DeviceTensor::Allocate(device, DType::kI32, {num_tokens}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor code_sum,
                         DeviceTensor::Allocate(device, DType::kI32, {num_tokens, 2}));
  const LinearInput x{.format = format,
                      .codes = codes.view(),
                      .scale = scale.view(),
                      .exponent = exponent.view(),
                      .code_sum = code_sum.view()};
  COMET_RETURN_IF_ERROR(backend.ops->Gather({.out = x, .x = input}));
  const TensorShape shape{num_tokens, weights.num_outputs()};
  product.resize(static_cast<size_t>(shape.num_elements()));
  if (device.is_host()) {
    return backend.ops->Linear(
        {.y = {product.data(), DType::kF32, shape}, .x = x, .weights = &weights});
  }
  COMET_ASSIGN_OR_RETURN(const DeviceTensor output,
                         DeviceTensor::Allocate(device, DType::kF32, shape));
  COMET_RETURN_IF_ERROR(backend.ops->Linear({.y = output.view(), .x = x, .weights = &weights}));
  return device.CopyToHost(product.data(), output.view().data(),
                           static_cast<int64_t>(product.size() * sizeof(float)));
}

Result<ServedProduct> ServedProduct::Make(Backend& backend, const QuantizedLinear& linear,
                                          bool hadamard) {
  ServedProduct made;
  COMET_ASSIGN_OR_RETURN(made.weights_, backend.ops->PackLinear(ViewOf(linear)));
  made.clip_ = linear.precision.clip;
  made.hadamard_ = hadamard;
  made.gather_ = linear.gather;
  return made;
}

Status ServedProduct::Run(Backend& backend, ActivationMode mode, std::span<const float> rows,
                          HostRows& product) const {
  const int num_int4 = weights_->num_int4_channels();
  const ActivationFormat format{
      .mode = mode,
      .num_int4_channels = num_int4,
      .exponent_max = ExponentMax(mode, num_int4, weights_->num_inputs() - num_int4),
      .clip = clip_};
  return MultiplyCodes(backend, format, rows, *weights_, product);
}

void ServedProduct::ToLayer(int num_threads, std::span<float> rows) const {
  if (gather_.empty() && !hadamard_) return;
  const size_t width = static_cast<size_t>(weights_->num_inputs());
  ParallelRows(num_threads, static_cast<int>(rows.size() / width), [&](int first, int last) {
    std::vector<float> plain(width);
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const std::span<float> row = rows.subspan(t * width, width);
      if (!gather_.empty()) {
        std::ranges::copy(row, plain.begin());
        for (size_t j = 0; j < width; ++j) row[j] = plain[static_cast<size_t>(gather_[j])];
      }
      if (hadamard_) {
        HadamardBlocks(row, weights_->num_inputs(), weights_->num_int4_channels(), 1);
      }
    }
  });
}

}  // namespace comet
