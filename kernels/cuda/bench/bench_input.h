#pragma once

#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/ops.h"

namespace comet::cuda {

// A copy in device memory.
template <typename T>
Result<DeviceBuffer> Upload(CudaDevice& device, const std::vector<T>& values) {
  const int64_t num_bytes = static_cast<int64_t>(values.size() * sizeof(T));
  COMET_ASSIGN_OR_RETURN(DeviceBuffer buffer, device.Allocate(num_bytes));
  COMET_RETURN_IF_ERROR(device.CopyToDevice(buffer.data(), values.data(), num_bytes));
  return buffer;
}

// Device memory for what a row op writes and a product reads, with room for `num_tokens_max`
// tokens.
class BenchInput {
 public:
  BenchInput() = default;

  // Filled with the codes of random numbers by the gather op.
  static Result<BenchInput> Create(CudaDevice& device, Ops& ops, const ActivationFormat& format,
                                   int num_tokens_max, int num_channels);
  // Left as it is.
  static Result<BenchInput> Allocate(CudaDevice& device, const ActivationFormat& format,
                                     int num_tokens_max, int num_channels);

  LinearInput Rows(int num_tokens) const;

 private:
  ActivationFormat format_;
  int num_channels_ = 0;
  DeviceBuffer codes_;
  DeviceBuffer scale_;
  DeviceBuffer exponent_;
  DeviceBuffer code_sum_;
};

}  // namespace comet::cuda
