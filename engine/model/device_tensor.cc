#include "engine/model/device_tensor.h"

#include <algorithm>

namespace comet {

Result<DeviceTensor> DeviceTensor::Allocate(Device& device, DType dtype, TensorShape shape) {
  DeviceTensor tensor;
  // A view with no data is an absent tensor, so an empty one still gets an address.
  const int64_t num_bytes = std::max<int64_t>(shape.num_elements() * BytesOf(dtype), 1);
  COMET_ASSIGN_OR_RETURN(tensor.buffer_, device.Allocate(num_bytes));
  tensor.view_ = TensorView(tensor.buffer_.data(), dtype, shape);
  return tensor;
}

Result<DeviceTensor> DeviceTensor::Upload(Device& device, const ConstTensorView& host) {
  if (!host.is_present()) return DeviceTensor();
  COMET_CHECK(host.shape().is_contiguous());
  COMET_ASSIGN_OR_RETURN(DeviceTensor tensor, Allocate(device, host.dtype(), host.shape()));
  COMET_RETURN_IF_ERROR(device.CopyToDevice(tensor.view_.data(), host.data(),
                                            host.shape().num_elements() * BytesOf(host.dtype())));
  return tensor;
}

}  // namespace comet
