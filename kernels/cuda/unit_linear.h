#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "kernels/cuda/staged_upload.h"
#include "kernels/cuda/unit_layout.h"
#include "kernels/device.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/random_linear.h"

namespace comet::cuda {

// Whole rows of units to be made of rows of a checkpoint, all in device memory.
struct PackArgs {
  uint8_t* units = nullptr;        // [CeilDiv(num_outputs, 64) * num_blocks, kUnitBytes]
  const uint8_t* codes = nullptr;  // [num_outputs, num_inputs / 2], as W4axWeights
  const int8_t* steps = nullptr;   // [num_outputs, num_blocks]
  int num_outputs = 0;             // Rows; the last unit's missing ones have steps 0.
  int num_inputs = 0;
  int num_int4_channels = 0;
};

// Issues the re-layout on the stream. Errors: those of the launch.
using PackFunction = Status (*)(const PackArgs& args, cudaStream_t stream);

// W4Ax weights in units (unit_layout.h), in device memory; made there, of rows that are brought or
// made a piece at a time.
class UnitLinear : public PackedLinear {
 public:
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

 protected:
  UnitLinear(int num_outputs, int num_inputs, int num_int4_channels, PackFunction pack_units)
      : num_outputs_(num_outputs),
        num_inputs_(num_inputs),
        num_int4_channels_(num_int4_channels),
        pack_units_(pack_units) {}

  // Once. Errors: those of the device.
  Status Fill(StagedUpload& upload, const W4axWeights& weights);
  Status FillRandom(StagedUpload& upload, const RandomLinear& linear);

 private:
  struct Piece;

  // Units and scales, not filled.
  Status Allocate(Device& device);
  // The rows from `first_output` on that fit the upload's buffers.
  Piece PieceAt(int first_output) const;
  // Makes a piece's units of what lies in the upload's device buffer.
  Status PackPiece(StagedUpload& upload, const Piece& piece);

  int num_outputs_;
  int num_inputs_;
  int num_int4_channels_;
  PackFunction pack_units_;
  DeviceBuffer units_;
  DeviceBuffer scale_;
};

// Of one layout.
template <PackFunction kPackUnits>
class UnitLinearOf final : public UnitLinear {
 public:
  // `weights` are valid. Errors: those of the device.
  static Result<std::unique_ptr<UnitLinearOf>> Pack(StagedUpload& upload,
                                                    const W4axWeights& weights) {
    std::unique_ptr<UnitLinearOf> packed(new UnitLinearOf(
        weights.codes.dim(0), 2 * weights.codes.dim(1), weights.num_int4_channels));
    COMET_RETURN_IF_ERROR(packed->Fill(upload, weights));
    return packed;
  }
  static Result<std::unique_ptr<UnitLinearOf>> PackRandom(StagedUpload& upload,
                                                          const RandomLinear& linear) {
    std::unique_ptr<UnitLinearOf> packed(
        new UnitLinearOf(linear.num_outputs, linear.num_inputs, linear.num_int4_channels));
    COMET_RETURN_IF_ERROR(packed->FillRandom(upload, linear));
    return packed;
  }

 private:
  UnitLinearOf(int num_outputs, int num_inputs, int num_int4_channels)
      : UnitLinear(num_outputs, num_inputs, num_int4_channels, kPackUnits) {}
};

}  // namespace comet::cuda
