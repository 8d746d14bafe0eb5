#pragma once

#include <cstdint>

#include "kernels/base/tensor_view.h"

namespace comet::reference {

// Element [row, column] of a matrix, or [column] of a vector, of any float dtype.
float LoadFloat(const ConstTensorView& tensor, int row, int column);
float LoadFloat(const ConstTensorView& tensor, int column);
// One rounding to the tensor's dtype (f32 or f16).
void StoreFloat(const TensorView& tensor, int row, int column, float value);

inline int32_t LoadInt(const ConstTensorView& tensor, int i) { return tensor.as<int32_t>()[i]; }

}  // namespace comet::reference
