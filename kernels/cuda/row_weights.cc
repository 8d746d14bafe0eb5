#include "kernels/cuda/row_weights.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/base/math.h"

namespace comet::cuda {
namespace {

constexpr int64_t kRowAlignment = 16;  // Bytes, of one vector load.
constexpr int64_t kStagingBytes = 16 << 20;

}  // namespace

// Rows go through a staging buffer, some at a time, where their padding is zeroed.
Result<std::unique_ptr<RowWeights>> RowWeights::Upload(CudaDevice& device,
                                                       const ConstTensorView& source) {
  const int num_rows = source.dim(0);
  const int element_bytes = BytesOf(source.dtype());
  const int64_t source_row_bytes = source.stride(0) * element_bytes;
  const int64_t used_bytes = int64_t{source.dim(1)} * element_bytes;
  const int64_t row_bytes = AlignUp(used_bytes, kRowAlignment);
  auto weights = std::make_unique<RowWeights>();
  COMET_ASSIGN_OR_RETURN(weights->buffer_, device.Allocate(num_rows * row_bytes));

  const int rows_at_once = static_cast<int>(std::clamp<int64_t>(
      kStagingBytes / std::max<int64_t>(row_bytes, 1), 1, std::max(num_rows, 1)));
  std::vector<std::byte> staging(static_cast<size_t>(rows_at_once * row_bytes));
  for (int first = 0; first < num_rows; first += rows_at_once) {
    const int count = std::min(rows_at_once, num_rows - first);
    for (int i = 0; i < count; ++i) {
      const auto* row =
          static_cast<const std::byte*>(source.data()) + (first + i) * source_row_bytes;
      std::copy_n(row, used_bytes, staging.data() + i * row_bytes);
    }
    COMET_RETURN_IF_ERROR(
        device.CopyToDevice(static_cast<std::byte*>(weights->buffer_.data()) + first * row_bytes,
                            staging.data(), count * row_bytes));
  }
  TensorShape shape = {num_rows, source.dim(1)};
  shape.set_stride(0, row_bytes / element_bytes);
  weights->rows_ = ConstTensorView(weights->buffer_.data(), source.dtype(), shape);
  return weights;
}

Result<std::unique_ptr<RowWeights>> RowWeights::Create(CudaDevice& device,
                                                       const Int8Weights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<RowWeights> uploaded, Upload(device, weights.codes));
  const int64_t scale_bytes = int64_t{weights.scale.dim(0)} * BytesOf(DType::kF32);
  COMET_ASSIGN_OR_RETURN(uploaded->scale_, device.Allocate(scale_bytes));
  COMET_RETURN_IF_ERROR(
      device.CopyToDevice(uploaded->scale_.data(), weights.scale.data(), scale_bytes));
  return uploaded;
}

Result<std::unique_ptr<RowWeights>> RowWeights::Create(CudaDevice& device,
                                                       const FloatWeights& weights) {
  COMET_RETURN_IF_ERROR(Validate(weights));
  return Upload(device, weights.values);
}

}  // namespace comet::cuda
