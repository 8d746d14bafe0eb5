#include "kernels/reference/elements.h"

#include "kernels/base/float_element.h"

namespace comet::reference {
float LoadFloat(const ConstTensorView& tensor, int row, int column) {
  return FloatAt(tensor, row * tensor.stride(0) + column);
}

float LoadFloat(const ConstTensorView& tensor, int column) { return FloatAt(tensor, column); }

void StoreFloat(const TensorView& tensor, int row, int column, float value) {
  const int64_t offset = row * tensor.stride(0) + column;
  if (tensor.dtype() == DType::kF16) {
    tensor.as<Half>()[offset] = HalfFromFloat(value);
  } else {
    tensor.as<float>()[offset] = value;
  }
}

}  // namespace comet::reference
