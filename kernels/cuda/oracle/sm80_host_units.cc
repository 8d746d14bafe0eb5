#include "kernels/cuda/oracle/sm80_host_units.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/math.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

constexpr int kBlockBytes = kUnitChannels / 2;
constexpr int kGroupBytes = 4;  // Eight channels, in the checkpoint and in a unit.
constexpr int kTiles = 4;

// The words of one output of a unit, from its block of the checkpoint.
void PackOutput(const uint8_t* codes, int num_bytes, int unit_output, uint8_t* unit) {
  const int row = unit_output / 8;
  const int tile = unit_output % 8 / 2;
  const int h = unit_output % 2;
  for (int group = 0; group * kGroupBytes < num_bytes; ++group) {
    uint32_t nibbles = 0;
    std::memcpy(&nibbles, codes + group * kGroupBytes,
                static_cast<size_t>(std::min(kGroupBytes, num_bytes - group * kGroupBytes)));
    const uint32_t word = InterleaveCodes(nibbles);
    const int half = group / 8;
    const int lane_idx = row * 4 + group % 8 / 2;
    const int s = group % 2;
    std::memcpy(unit + (half * kTiles + tile) * kFragmentBytes + lane_idx * 16 + (2 * s + h) * 4,
                &word, sizeof(word));
  }
}

}  // namespace

std::vector<uint8_t> PackUnitsOnHost(const W4axWeights& weights) {
  const int num_outputs = weights.codes.dim(0);
  const int row_bytes = weights.codes.dim(1);
  const int num_blocks = weights.steps.dim(1);
  const int num_int4_blocks = weights.num_int4_channels / kUnitChannels;
  const int num_unit_rows = CeilDiv(num_outputs, kUnitOutputs);
  std::vector<uint8_t> units(static_cast<size_t>(num_unit_rows) * static_cast<size_t>(num_blocks) *
                             kUnitBytes);
  uint8_t* unit = units.data();
  for (int row_idx = 0; row_idx < num_unit_rows; ++row_idx) {
    for (int step_idx = 0; step_idx < num_blocks; ++step_idx, unit += kUnitBytes) {
      const int block_idx = BlockOfStep(step_idx, num_int4_blocks, num_blocks - num_int4_blocks);
      const int first_output = row_idx * kUnitOutputs;
      for (int i = 0; i < std::min(kUnitOutputs, num_outputs - first_output); ++i) {
        const int64_t output = first_output + i;
        const int first_byte = block_idx * kBlockBytes;
        PackOutput(weights.codes.as<uint8_t>() + output * row_bytes + first_byte,
                   std::min(kBlockBytes, row_bytes - first_byte), i, unit);
        unit[kUnitCodeBytes + i] =
            static_cast<uint8_t>(weights.steps.as<int8_t>()[output * num_blocks + block_idx]);
      }
    }
  }
  return units;
}

}  // namespace comet::sm80
