#include "engine/quantizer/linear_to_host.h"

#include "engine/model/device_tensor.h"
#include "kernels/base/check.h"

namespace comet {
namespace {

size_t SizeOf(const LinearInput& x, const PackedLinear& weights) {
  return static_cast<size_t>(x.num_tokens()) * static_cast<size_t>(weights.num_outputs());
}

Status Run(Backend& backend, const LinearInput& x, const PackedLinear& weights, bool adds,
           HostRows& y) {
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
  return device.CopyToHost(y.data(), output.data(), static_cast<int64_t>(y.size() * sizeof(float)));
}

}  // namespace

Status LinearToHost(Backend& backend, const LinearInput& x, const PackedLinear& weights,
                    HostRows& y) {
  y.resize(SizeOf(x, weights));
  return Run(backend, x, weights, false, y);
}

Status AddLinearToHost(Backend& backend, const LinearInput& x, const PackedLinear& weights,
                       HostRows& y) {
  if (y.empty()) return LinearToHost(backend, x, weights, y);
  COMET_CHECK(y.size() == SizeOf(x, weights));
  return Run(backend, x, weights, true, y);
}

}  // namespace comet
