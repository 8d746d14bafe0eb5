#pragma once

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/device.h"

namespace comet {

// A contiguous tensor that owns its device memory. Empty by default.
class DeviceTensor {
 public:
  DeviceTensor() = default;

  // Uninitialised.
  static Result<DeviceTensor> Allocate(Device& device, DType dtype, TensorShape shape);
  // A copy of a contiguous host tensor; empty when `host` is absent.
  static Result<DeviceTensor> Upload(Device& device, const ConstTensorView& host);

  const TensorView& view() const { return view_; }
  int64_t num_bytes() const { return buffer_.num_bytes(); }

 private:
  DeviceBuffer buffer_;
  TensorView view_;
};

}  // namespace comet
