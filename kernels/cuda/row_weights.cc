#include "kernels/cuda/row_weights.h"

#include <cuda_runtime_api.h>

#include "kernels/base/math.h"
#include "kernels/cuda/random_rows.h"

namespace comet::cuda {
namespace {

constexpr int64_t kRowAlignment = 16;  // Bytes, of one vector load.

}  // namespace

Result<std::unique_ptr<RowWeights>> RowWeights::Allocate(Device& device, DType dtype, int num_rows,
                                                         int num_columns) {
  const int element_bytes = BytesOf(dtype);
  const int64_t row_bytes = AlignUp(int64_t{num_columns} * element_bytes, kRowAlignment);
  auto weights = std::make_unique<RowWeights>();
  COMET_ASSIGN_OR_RETURN(weights->buffer_, device.Allocate(num_rows * row_bytes));
  TensorShape shape = {num_rows, num_columns};
  shape.set_stride(0, row_bytes / element_bytes);
  weights->rows_ = ConstTensorView(weights->buffer_.data(), dtype, shape);
  return weights;
}

Result<std::unique_ptr<RowWeights>> RowWeights::Upload(StagedUpload& upload,
                                                       const ConstTensorView& source) {
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<RowWeights> weights,
                         Allocate(upload.device(), source.dtype(), source.dim(0), source.dim(1)));
  const int element_bytes = BytesOf(source.dtype());
  COMET_RETURN_IF_ERROR(upload.CopyRows(
      weights->buffer_.data(), weights->rows_.stride(0) * element_bytes, source.data(),
      source.stride(0) * element_bytes, int64_t{source.dim(1)} * element_bytes, source.dim(0)));
  return weights;
}

Result<std::unique_ptr<RowWeights>> RowWeights::Create(StagedUpload& upload,
                                                       const Int8Weights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<RowWeights> uploaded, Upload(upload, weights.codes));
  const int64_t scale_bytes = int64_t{weights.scale.dim(0)} * BytesOf(DType::kF32);
  COMET_ASSIGN_OR_RETURN(uploaded->scale_, upload.device().Allocate(scale_bytes));
  COMET_RETURN_IF_ERROR(upload.Copy(uploaded->scale_.data(), weights.scale.data(), scale_bytes));
  return uploaded;
}

Result<std::unique_ptr<RowWeights>> RowWeights::Create(StagedUpload& upload,
                                                       const FloatWeights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  return Upload(upload, weights.values);
}

Result<std::unique_ptr<RowWeights>> RowWeights::CreateRandom(StagedUpload& upload,
                                                             const RandomLinear& linear) {
  const bool is_int8 = linear.kind == WeightKind::kInt8;
  CudaDevice& device = upload.device();
  const cudaStream_t stream = static_cast<cudaStream_t>(device.stream().handle());
  COMET_ASSIGN_OR_RETURN(
      std::unique_ptr<RowWeights> weights,
      Allocate(device, is_int8 ? DType::kI8 : DType::kF16, linear.num_outputs, linear.num_inputs));
  const RandomRows rows{.seed = linear.seed,
                        .num_rows = linear.num_outputs,
                        .num_columns = linear.num_inputs,
                        .row_stride = weights->rows_.stride(0)};
  void* const data = weights->buffer_.data();
  if (!is_int8) {
    COMET_RETURN_IF_ERROR(FillRandomHalfs(static_cast<uint16_t*>(data), rows, stream));
    return weights;
  }
  COMET_RETURN_IF_ERROR(FillRandomInt8Codes(static_cast<int8_t*>(data), rows, stream));
  COMET_ASSIGN_OR_RETURN(weights->scale_,
                         device.Allocate(int64_t{linear.num_outputs} * BytesOf(DType::kF32)));
  COMET_RETURN_IF_ERROR(FillRandomScales(static_cast<float*>(weights->scale_.data()),
                                         {.seed = linear.seed,
                                          .num_rows = 1,
                                          .num_columns = linear.num_outputs,
                                          .row_stride = linear.num_outputs},
                                         random_linear::ScaleUnit(linear), stream));
  return weights;
}

}  // namespace comet::cuda
