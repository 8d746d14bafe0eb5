#pragma once

#include <cstring>
#include <vector>

#include "engine/quantizer/two_level_weights.h"
#include "kernels/base/math.h"
#include "tests/engine/normal_values.h"

namespace comet {

inline std::vector<float> ValuesOf(const TwoLevelWeights& weights, int num_channels) {
  const int num_rows = static_cast<int>(weights.scale.size());
  return Dequantize(W4axWeights{
      .codes = {weights.codes.data(), DType::kU8, {num_rows, num_channels / 2}},
      .steps = {weights.steps.data(), DType::kI8, {num_rows, CeilDiv(num_channels, 128)}},
      .scale = {weights.scale.data(), DType::kF32, {num_rows}}});
}

inline bool SameBytes(const TwoLevelWeights& a, const TwoLevelWeights& b) {
  return a.codes == b.codes && a.steps == b.steps &&
         std::memcmp(a.scale.data(), b.scale.data(), a.scale.size() * sizeof(float)) == 0;
}

}  // namespace comet
