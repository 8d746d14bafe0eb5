#include "kernels/reference/elements.h"

namespace comet::reference {
namespace {

float LoadAt(const ConstTensorView& tensor, int64_t offset) {
  switch (tensor.dtype()) {
    case DType::kF32: return tensor.as<float>()[offset];
    case DType::kF16: return ToFloat(tensor.as<Half>()[offset]);
    case DType::kBf16: return ToFloat(tensor.as<Bfloat16>()[offset]);
    case DType::kI32:
    case DType::kI8:
    case DType::kU8: break;
  }
  COMET_CHECK_MSG(false, "not a float dtype");
}

}  // namespace

float LoadFloat(const ConstTensorView& tensor, int row, int column) {
  return LoadAt(tensor, row * tensor.stride(0) + column);
}

float LoadFloat(const ConstTensorView& tensor, int column) { return LoadAt(tensor, column); }

void StoreFloat(const TensorView& tensor, int row, int column, float value) {
  const int64_t offset = row * tensor.stride(0) + column;
  if (tensor.dtype() == DType::kF16) {
    tensor.as<Half>()[offset] = HalfFromFloat(value);
  } else {
    tensor.as<float>()[offset] = value;
  }
}

}  // namespace comet::reference
