#include "kernels/cuda/oracle/sm80_host_units.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/cuda/oracle/unit_rows.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

constexpr size_t kGroupBytes = 4;  // Eight channels, in the checkpoint and in a unit.
constexpr int kTiles = 4;

// The words of one output of a unit, from its block of the checkpoint.
void PackOutput(std::span<const uint8_t> codes, int unit_output, uint8_t* unit) {
  const int row = unit_output / 8;
  const int tile = unit_output % 8 / 2;
  const int h = unit_output % 2;
  int group = 0;
  for (size_t begin = 0; begin < codes.size(); begin += kGroupBytes, ++group) {
    uint32_t nibbles = 0;
    std::memcpy(&nibbles, codes.data() + begin, std::min(kGroupBytes, codes.size() - begin));
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
  return cuda::MakeUnitRows(weights, PackOutput);
}

}  // namespace comet::sm80
