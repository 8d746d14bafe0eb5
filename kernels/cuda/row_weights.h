#pragma once

#include <memory>

#include "kernels/cuda/staged_upload.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/random_linear.h"

namespace comet::cuda {

// INT8 or float weights in the order of the checkpoint, each row from a multiple of 16 bytes: read
// by `embedding`, and the INT8 ones by `linear`. Immutable.
class RowWeights final : public PackedLinear {
 public:
  static Result<std::unique_ptr<RowWeights>> Create(StagedUpload& upload,
                                                    const Int8Weights& weights);
  static Result<std::unique_ptr<RowWeights>> Create(StagedUpload& upload,
                                                    const FloatWeights& weights);
  // kInt8 or kFloat.
  static Result<std::unique_ptr<RowWeights>> CreateRandom(StagedUpload& upload,
                                                          const RandomLinear& linear);

  WeightKind kind() const override {
    return rows_.dtype() == DType::kI8 ? WeightKind::kInt8 : WeightKind::kFloat;
  }
  int num_outputs() const override { return rows_.dim(0); }
  int num_inputs() const override { return rows_.dim(1); }
  int num_int4_channels() const override { return 0; }
  int64_t num_bytes() const override { return buffer_.num_bytes() + scale_.num_bytes(); }

  const ConstTensorView& rows() const { return rows_; }  // [N, K], i8, f32, f16 or bf16
  const float* scale() const { return static_cast<const float*>(scale_.data()); }  // [N], kInt8

 private:
  // Rows, not filled.
  static Result<std::unique_ptr<RowWeights>> Allocate(Device& device, DType dtype, int num_rows,
                                                      int num_columns);
  static Result<std::unique_ptr<RowWeights>> Upload(StagedUpload& upload,
                                                    const ConstTensorView& source);

  DeviceBuffer buffer_;
  DeviceBuffer scale_;
  ConstTensorView rows_;
};

}  // namespace comet::cuda
