#pragma once

#include <span>

#include "engine/model/device_tensor.h"
#include "engine/quantizer/host_rows.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"
#include "kernels/ops/linear.h"

namespace comet {

// Host rows in the codes of an integer format, made and held by a back end. Immutable.
class CodedRows {
 public:
  // rows [any, width], channels in the order of the weights that they are for. Errors: those of the
  // back end.
  static Result<CodedRows> Make(Backend& backend, const ActivationFormat& format,
                                std::span<const float> rows, int width);

  LinearInput view() const;

  // Replaces rows of the same shape by what the codes stand for. Errors: those of the device.
  Status Decode(Device& device, int num_threads, std::span<float> rows) const;

  // The rows as INT8 weights; of the 8-bit format without an INT4 region. Errors: those of the back
  // end.
  Result<std::unique_ptr<PackedLinear>> Pack(Backend& backend) const;

 private:
  ActivationFormat format_;
  DeviceTensor codes_;
  DeviceTensor scale_;
  DeviceTensor exponent_;
  DeviceTensor code_sum_;
};

// sum [M, N] += a b^T for a [M, K] and b [N, K], each held in 8-bit codes with a scale a row. An
// empty sum is 0. Errors: those of the back end.
Status AddProductOfCodes(Backend& backend, std::span<const float> a, std::span<const float> b,
                         int num_columns, HostRows& sum);

}  // namespace comet
