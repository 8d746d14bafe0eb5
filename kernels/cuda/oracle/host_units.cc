#include "kernels/cuda/oracle/host_units.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/math.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

namespace comet::sm90 {
namespace {

constexpr int kThreads = 128;  // Of a warpgroup.
constexpr int kWords = 8;      // Of a thread: 4 steps of 32 channels x 2 outputs.

// One output's codes of one block, two channels a byte; v = 0 past K.
struct BlockCodes {
  uint8_t bytes[kUnitChannels / 2] = {};
};

BlockCodes LoadBlock(const W4axWeights& weights, int output, int block_idx) {
  BlockCodes block;
  if (output >= weights.codes.dim(0)) return block;
  const int first_byte = block_idx * (kUnitChannels / 2);
  const int num_bytes = std::min(kUnitChannels / 2, weights.codes.dim(1) - first_byte);
  std::memcpy(block.bytes,
              weights.codes.as<uint8_t>() + output * int64_t{weights.codes.dim(1)} + first_byte,
              static_cast<size_t>(num_bytes));
  return block;
}

// v + 8 of four channels from `channel` on, one a byte.
uint32_t FourCodes(const BlockCodes& block, int channel) {
  const uint32_t low = block.bytes[channel / 2];
  const uint32_t high = block.bytes[channel / 2 + 1];
  const uint32_t codes = (low & 0xf) | (low >> 4) << 8 | (high & 0xf) << 16 | (high >> 4) << 24;
  return codes ^ 0x08080808u;  // Flipping bit 3 of a two's complement nibble adds 8.
}

// The words of all threads that hold one output of a unit.
void PackOutput(const BlockCodes& block, int unit_output, uint8_t* unit) {
  const int warp_idx = unit_output / 16;
  const int half = unit_output % 2;
  for (int quad = 0; quad < 4; ++quad) {
    const int thread_idx = warp_idx * 32 + unit_output % 16 / 2 * 4 + quad;
    for (int step = 0; step < kWords / 2; ++step) {
      const int channel = 32 * step + 4 * quad;
      const uint32_t word = FourCodes(block, channel) | FourCodes(block, channel + 16) << 4;
      const int word_idx = 2 * step + half;
      std::memcpy(unit + word_idx / 4 * (kThreads * 16) + thread_idx * 16 + word_idx % 4 * 4, &word,
                  sizeof(word));
    }
  }
}

}  // namespace

std::vector<uint8_t> PackUnitsOnHost(const W4axWeights& weights) {
  const int num_outputs = weights.codes.dim(0);
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
        const int output = row_idx * kUnitOutputs + i;
        PackOutput(LoadBlock(weights, output, block_idx), i, unit);
        if (output < num_outputs) {
          unit[kUnitCodeBytes + i] = static_cast<uint8_t>(
              weights.steps.as<int8_t>()[output * int64_t{num_blocks} + block_idx]);
        }
      }
    }
  }
  return units;
}

}  // namespace comet::sm90
