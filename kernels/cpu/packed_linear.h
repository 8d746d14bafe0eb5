#pragma once

#include <cstdint>

#include "kernels/base/status.h"
#include "kernels/base/thread_pool.h"
#include "kernels/device.h"
#include "kernels/ops/linear.h"

namespace comet::cpu {

// Weights in tiles of kTileOutputs output channels, in the orders of kernel_table.h. The last tile
// is filled up with zeros (codes) and whatever is never stored. Float weights are f32, or f16 where
// that is what they were: such is an embedding, of which a step reads single rows.
class CpuLinear final : public PackedLinear {
 public:
  static Result<std::unique_ptr<PackedLinear>> Pack(Device& device, ThreadPool& pool,
                                                    const W4axWeights& weights);
  static Result<std::unique_ptr<PackedLinear>> Pack(Device& device, ThreadPool& pool,
                                                    const Int8Weights& weights);
  static Result<std::unique_ptr<PackedLinear>> Pack(Device& device, ThreadPool& pool,
                                                    const FloatWeights& weights);

  // The weights as this back end's own; anything else is the caller's bug.
  static const CpuLinear& Unpack(const PackedLinear& weights);

  WeightKind kind() const override { return kind_; }
  int num_outputs() const override { return num_outputs_; }
  int num_inputs() const override { return num_inputs_; }
  int num_int4_channels() const override { return num_int4_channels_; }
  int64_t num_bytes() const override {
    return tiles_.num_bytes() + steps_.num_bytes() + scale_.num_bytes();
  }

  int num_tiles() const { return num_tiles_; }
  int num_blocks() const { return num_blocks_; }        // 1 unless kW4ax.
  int padded_inputs() const { return padded_inputs_; }  // What a tile's rows are padded to.
  const uint8_t* code_tile(int tile_idx) const {
    return static_cast<const uint8_t*>(tiles_.data()) + tile_idx * tile_bytes_;
  }
  bool is_half() const { return is_half_; }  // Float weights in f16.
  const float* float_tile(int tile_idx) const {
    return reinterpret_cast<const float*>(code_tile(tile_idx));
  }
  const uint16_t* half_tile(int tile_idx) const {
    return reinterpret_cast<const uint16_t*>(code_tile(tile_idx));
  }
  // Row `output_idx` of f16 weights.
  const uint16_t* half_row(int output_idx) const;
  const int8_t* steps(int tile_idx) const;
  const float* scale(int tile_idx) const;

  // Row `output_idx` of INT8 or f32 weights, as floats: scale * code or the value.
  void CopyRow(int output_idx, float* out) const;

 private:
  CpuLinear() = default;
  Status Allocate(Device& device);

  WeightKind kind_ = WeightKind::kFloat;
  int num_outputs_ = 0;
  int num_inputs_ = 0;
  int num_int4_channels_ = 0;
  int num_tiles_ = 0;
  int num_blocks_ = 1;
  int padded_inputs_ = 0;
  bool is_half_ = false;
  int64_t tile_bytes_ = 0;
  DeviceBuffer tiles_;
  DeviceBuffer steps_;  // [num_tiles][num_blocks][kTileOutputs] i8
  DeviceBuffer scale_;  // [num_tiles][kTileOutputs] f32
};

}  // namespace comet::cpu
