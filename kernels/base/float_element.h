#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/base/dtype.h"
#include "kernels/base/tensor_view.h"

namespace comet {

// Element `idx`, in memory's order, of a tensor of any float dtype in host memory, which may begin
// at any byte.
inline float FloatAt(const ConstTensorView& tensor, int64_t idx) {
  const std::byte* const element =
      static_cast<const std::byte*>(tensor.data()) + idx * BytesOf(tensor.dtype());
  uint16_t bits = 0;
  switch (tensor.dtype()) {
    case DType::kF32: {
      float value = 0.0f;
      std::memcpy(&value, element, sizeof(value));
      return value;
    }
    case DType::kF16: std::memcpy(&bits, element, sizeof(bits)); return ToFloat(Half{bits});
    case DType::kBf16: std::memcpy(&bits, element, sizeof(bits)); return ToFloat(Bfloat16{bits});
    case DType::kI32:
    case DType::kI8:
    case DType::kU8: break;
  }
  COMET_CHECK_MSG(false, "not a float dtype");
}

}  // namespace comet
