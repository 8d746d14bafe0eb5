#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops/linear.h"

namespace comet::sm80 {

// W4Ax weights in the layout of sm80_w4ax_layout.h, in device memory.
class W4axLinear final : public PackedLinear {
 public:
  // Errors: those of Validate(weights) and of the device's memory.
  static Result<std::unique_ptr<W4axLinear>> Pack(Device& device, const W4axWeights& weights);

  // Memory of the layout, left as it is: for measurement.
  static Result<std::unique_ptr<W4axLinear>> Allocate(Device& device, int num_outputs,
                                                      int num_inputs, int num_int4_channels);

  WeightKind kind() const override { return WeightKind::kW4ax; }
  int num_outputs() const override { return num_outputs_; }
  int num_inputs() const override { return num_inputs_; }
  int num_int4_channels() const override { return num_int4_channels_; }
  int64_t num_bytes() const override { return units_.num_bytes() + scale_.num_bytes(); }

  int64_t num_units_bytes() const { return units_.num_bytes(); }
  const uint8_t* units() const { return static_cast<const uint8_t*>(units_.data()); }
  // [num_unit_rows * kUnitOutputs], zeros past N.
  const float* scale() const { return static_cast<const float*>(scale_.data()); }
  int num_unit_rows() const;  // CeilDiv(N, kUnitOutputs)
  int num_blocks() const;     // CeilDiv(K, kUnitChannels)

 private:
  W4axLinear() = default;

  int num_outputs_ = 0;
  int num_inputs_ = 0;
  int num_int4_channels_ = 0;
  DeviceBuffer units_;
  DeviceBuffer scale_;
};

// The units of `weights` in host memory. `weights` are valid.
std::vector<uint8_t> PackUnits(const W4axWeights& weights);

}  // namespace comet::sm80
