#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/staged_upload.h"
#include "kernels/device.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/random_linear.h"

namespace comet::sm90 {

// W4Ax weights in the layout of sm90_w4ax_layout.h, in device memory; made there, of rows that are
// brought or made a piece at a time.
class W4axLinear final : public PackedLinear {
 public:
  // `weights` are valid. Errors: those of the device.
  static Result<std::unique_ptr<W4axLinear>> Pack(cuda::StagedUpload& upload,
                                                  const W4axWeights& weights);
  static Result<std::unique_ptr<W4axLinear>> PackRandom(cuda::StagedUpload& upload,
                                                        const RandomLinear& linear);

  WeightKind kind() const override { return WeightKind::kW4ax; }
  int num_outputs() const override { return num_outputs_; }
  int num_inputs() const override { return num_inputs_; }
  int num_int4_channels() const override { return num_int4_channels_; }
  int64_t num_bytes() const override { return units_.num_bytes() + scale_.num_bytes(); }

  const uint8_t* units() const { return static_cast<const uint8_t*>(units_.data()); }
  // [num_unit_rows * kUnitOutputs], zeros past N.
  const float* scale() const { return static_cast<const float*>(scale_.data()); }
  int num_unit_rows() const;  // CeilDiv(N, kUnitOutputs)
  int num_blocks() const;     // CeilDiv(K, kUnitChannels)

 private:
  struct Piece;

  W4axLinear(int num_outputs, int num_inputs, int num_int4_channels)
      : num_outputs_(num_outputs), num_inputs_(num_inputs), num_int4_channels_(num_int4_channels) {}

  // Units and scales, not filled.
  Status Allocate(Device& device);
  // The rows from `first_output` on that fit the upload's buffers.
  Piece PieceAt(int first_output) const;
  // Makes a piece's units of what lies in the upload's device buffer.
  Status PackPiece(cuda::StagedUpload& upload, const Piece& piece);

  int num_outputs_;
  int num_inputs_;
  int num_int4_channels_;
  DeviceBuffer units_;
  DeviceBuffer scale_;
};

}  // namespace comet::sm90
