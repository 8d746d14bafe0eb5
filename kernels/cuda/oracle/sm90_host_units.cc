#include "kernels/cuda/oracle/sm90_host_units.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/cuda/oracle/unit_rows.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

namespace comet::sm90 {
namespace {

constexpr int kThreads = 128;  // Of a warpgroup.
constexpr int kWords = 8;      // Of a thread: 4 steps of 32 channels x 2 outputs.

// One output's codes of one block, two channels a byte; v = 0 past K.
struct BlockCodes {
  uint8_t bytes[kUnitChannels / 2] = {};
};

// v + 8 of four channels from `channel` on, one a byte.
uint32_t FourCodes(const BlockCodes& block, int channel) {
  const uint32_t low = block.bytes[channel / 2];
  const uint32_t high = block.bytes[channel / 2 + 1];
  const uint32_t codes = (low & 0xf) | (low >> 4) << 8 | (high & 0xf) << 16 | (high >> 4) << 24;
  return codes ^ 0x08080808u;  // Flipping bit 3 of a two's complement nibble adds 8.
}

// The words of all threads that hold one output of a unit.
void PackOutput(std::span<const uint8_t> codes, int unit_output, uint8_t* unit) {
  BlockCodes block;
  std::copy(codes.begin(), codes.end(), block.bytes);
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
  return cuda::MakeUnitRows(weights, PackOutput);
}

}  // namespace comet::sm90
