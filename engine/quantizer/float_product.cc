#include "engine/quantizer/float_product.h"

#include "engine/model/device_tensor.h"

namespace comet {

Result<std::unique_ptr<PackedLinear>> PackMatrix(Backend& backend, std::span<const float> values,
                                                 int num_rows, int num_columns) {
  return backend.ops->PackLinear(
      FloatWeights{ConstTensorView(values.data(), DType::kF32, {num_rows, num_columns})});
}

Status LinearToHost(Backend& backend, const LinearInput& x, const PackedLinear& weights, bool adds,
                    std::span<float> y) {
  Device& device = *backend.device;
  const TensorShape shape{x.num_tokens(), weights.num_outputs()};
  TensorView output(y.data(), DType::kF32, shape);
  DeviceTensor held;
  if (!device.is_host()) {
    if (adds) {
      COMET_ASSIGN_OR_RETURN(held, DeviceTensor::Upload(device, output));
    } else {
      COMET_ASSIGN_OR_RETURN(held, DeviceTensor::Allocate(device, DType::kF32, shape));
    }
    output = held.view();
  }
  COMET_RETURN_IF_ERROR(
      backend.ops->Linear({.y = output,
                           .x = x,
                           .weights = &weights,
                           .residual = adds ? ConstTensorView(output) : ConstTensorView()}));
  if (device.is_host()) return Status::Ok();
  return device.CopyToHost(y.data(), output.data(), static_cast<int64_t>(y.size_bytes()));
}

namespace {

Status LinearOfFloats(Backend& backend, std::span<const float> a, const PackedLinear& b, bool adds,
                      std::span<float> y) {
  const int k = b.num_inputs();
  const TensorShape shape{static_cast<int>(a.size() / static_cast<size_t>(k)), k};
  if (backend.device->is_host()) {  // Works on the rows where they are.
    const TensorView input(const_cast<float*>(a.data()), DType::kF32, shape);
    return LinearToHost(backend, {.values = input}, b, adds, y);
  }
  COMET_ASSIGN_OR_RETURN(const DeviceTensor input,
                         DeviceTensor::Upload(*backend.device, {a.data(), DType::kF32, shape}));
  return LinearToHost(backend, {.values = input.view()}, b, adds, y);
}

}  // namespace

Status MultiplyByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                            HostRows& product) {
  product.resize(a.size() / static_cast<size_t>(b.num_inputs()) *
                 static_cast<size_t>(b.num_outputs()));
  return LinearOfFloats(backend, a, b, false, product);
}

Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      const PackedLinear& b) {
  HostRows product;
  COMET_RETURN_IF_ERROR(MultiplyByTransposed(backend, a, b, product));
  return product;
}

Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      std::span<const float> b, int k) {
  COMET_ASSIGN_OR_RETURN(
      const std::unique_ptr<PackedLinear> packed,
      PackMatrix(backend, b, static_cast<int>(b.size() / static_cast<size_t>(k)), k));
  return MultiplyByTransposed(backend, a, *packed);
}

Status AddByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                       std::span<float> sum) {
  return LinearOfFloats(backend, a, b, true, sum);
}

}  // namespace comet
