#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/cuda/unit_layout.h"
#include "kernels/ops/linear.h"

namespace comet::cuda {

// Rows of units as every layout has them: blocks of the INT8 region first, then the INT4 region,
// each with its codes and then the steps of its outputs. `pack_output(codes, unit_output, unit)`
// writes one output's codes of a block, two channels a byte: fewer where K ends, none past N.
template <typename PackOutput>
std::vector<uint8_t> MakeUnitRows(const W4axWeights& weights, PackOutput pack_output) {
  constexpr int kBlockBytes = kUnitChannels / 2;
  const int num_outputs = weights.codes.dim(0);
  const int64_t row_bytes = weights.codes.dim(1);
  const int num_blocks = weights.steps.dim(1);
  const int num_int4_blocks = weights.num_int4_channels / kUnitChannels;
  const int num_unit_rows = CeilDiv(num_outputs, kUnitOutputs);
  std::vector<uint8_t> units(static_cast<size_t>(num_unit_rows) * static_cast<size_t>(num_blocks) *
                             kUnitBytes);
  uint8_t* unit = units.data();
  for (int row_idx = 0; row_idx < num_unit_rows; ++row_idx) {
    for (int step_idx = 0; step_idx < num_blocks; ++step_idx, unit += kUnitBytes) {
      const int block_idx = BlockOfStep(step_idx, num_int4_blocks, num_blocks - num_int4_blocks);
      for (int i = 0; i < kUnitOutputs; ++i) {
        const int64_t output = row_idx * kUnitOutputs + i;
        if (output >= num_outputs) {
          pack_output(std::span<const uint8_t>(), i, unit);
          continue;
        }
        const int64_t first_byte = int64_t{block_idx} * kBlockBytes;
        const auto num_bytes =
            static_cast<size_t>(std::min<int64_t>(kBlockBytes, row_bytes - first_byte));
        pack_output(
            std::span(weights.codes.as<uint8_t>() + output * row_bytes + first_byte, num_bytes), i,
            unit);
        unit[kUnitCodeBytes + i] =
            static_cast<uint8_t>(weights.steps.as<int8_t>()[output * num_blocks + block_idx]);
      }
    }
  }
  return units;
}

}  // namespace comet::cuda
