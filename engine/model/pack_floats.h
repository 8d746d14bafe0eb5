#pragma once

#include <memory>
#include <span>

#include "kernels/base/check.h"
#include "kernels/ops.h"

namespace comet {

// Rows [num_outputs, num_inputs] of unquantised weights as a device's product.
inline Result<std::unique_ptr<PackedLinear>> PackFloats(Ops& ops, std::span<const float> rows,
                                                        int num_outputs, int num_inputs) {
  COMET_CHECK(rows.size() == static_cast<size_t>(num_outputs) * static_cast<size_t>(num_inputs));
  return ops.PackLinear(
      FloatWeights{ConstTensorView(rows.data(), DType::kF32, {num_outputs, num_inputs})});
}

}  // namespace comet
