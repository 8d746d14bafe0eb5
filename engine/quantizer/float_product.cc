#include "engine/quantizer/float_product.h"

#include <algorithm>

#include "engine/model/device_tensor.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/math.h"

namespace comet {

Result<std::unique_ptr<PackedLinear>> PackMatrix(Backend& backend, std::span<const float> values,
                                                 int num_rows, int num_columns) {
  return backend.ops->PackLinear(
      FloatWeights{ConstTensorView(values.data(), DType::kF32, {num_rows, num_columns})});
}

Status MultiplyByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                            HostRows& product) {
  Device& device = *backend.device;
  const int k = b.num_inputs();
  const int num_rows = static_cast<int>(a.size() / static_cast<size_t>(k));
  const TensorShape shape{num_rows, b.num_outputs()};
  product.resize(static_cast<size_t>(shape.num_elements()));
  if (device.is_host()) {  // Works on the rows where they are.
    const TensorView input(const_cast<float*>(a.data()), DType::kF32, {num_rows, k});
    return backend.ops->Linear(
        {.y = {product.data(), DType::kF32, shape}, .x = {.values = input}, .weights = &b});
  }
  COMET_ASSIGN_OR_RETURN(const DeviceTensor input,
                         DeviceTensor::Upload(device, {a.data(), DType::kF32, {num_rows, k}}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor output,
                         DeviceTensor::Allocate(device, DType::kF32, shape));
  COMET_RETURN_IF_ERROR(
      backend.ops->Linear({.y = output.view(), .x = {.values = input.view()}, .weights = &b}));
  return device.CopyToHost(product.data(), output.view().data(),
                           static_cast<int64_t>(product.size() * sizeof(float)));
}

Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      const PackedLinear& b) {
  HostRows product;
  COMET_RETURN_IF_ERROR(MultiplyByTransposed(backend, a, b, product));
  return product;
}

Result<HostRows> MultiplyByTransposed(Backend& backend, std::span<const float> a,
                                      std::span<const float> b, int k) {
  COMET_ASSIGN_OR_RETURN(
      const std::unique_ptr<PackedLinear> packed,
      PackMatrix(backend, b, static_cast<int>(b.size() / static_cast<size_t>(k)), k));
  return MultiplyByTransposed(backend, a, *packed);
}

Status AddByTransposed(Backend& backend, std::span<const float> a, const PackedLinear& b,
                       std::span<float> sum) {
  Device& device = *backend.device;
  const int k = b.num_inputs();
  const int num_rows = static_cast<int>(a.size() / static_cast<size_t>(k));
  const TensorShape shape{num_rows, b.num_outputs()};
  if (device.is_host()) {  // Works on the rows where they are.
    const TensorView input(const_cast<float*>(a.data()), DType::kF32, {num_rows, k});
    const TensorView output(sum.data(), DType::kF32, shape);
    return backend.ops->Linear(
        {.y = output, .x = {.values = input}, .weights = &b, .residual = output});
  }
  COMET_ASSIGN_OR_RETURN(const DeviceTensor input,
                         DeviceTensor::Upload(device, {a.data(), DType::kF32, {num_rows, k}}));
  COMET_ASSIGN_OR_RETURN(const DeviceTensor output,
                         DeviceTensor::Upload(device, {sum.data(), DType::kF32, shape}));
  COMET_RETURN_IF_ERROR(backend.ops->Linear({.y = output.view(),
                                             .x = {.values = input.view()},
                                             .weights = &b,
                                             .residual = output.view()}));
  return device.CopyToHost(sum.data(), output.view().data(),
                           static_cast<int64_t>(sum.size() * sizeof(float)));
}

HostRows Transposed(std::span<const float> matrix, int num_columns, int num_threads) {
  constexpr size_t kTile = 32;  // Two tiles of 4 KB stay in the first-level cache.
  const size_t width = static_cast<size_t>(num_columns);
  const size_t height = matrix.size() / width;
  HostRows result(matrix.size());
  ParallelRows(num_threads, static_cast<int>(CeilDiv(width, kTile)), [&](int first, int last) {
    for (size_t column = static_cast<size_t>(first) * kTile;
         column < std::min(static_cast<size_t>(last) * kTile, width); column += kTile) {
      for (size_t row = 0; row < height; row += kTile) {
        for (size_t i = row; i < std::min(row + kTile, height); ++i) {
          for (size_t j = column; j < std::min(column + kTile, width); ++j) {
            result[j * height + i] = matrix[i * width + j];
          }
        }
      }
    }
  });
  return result;
}

}  // namespace comet
