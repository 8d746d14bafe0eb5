#include "kernels/cuda/oracle/sm80_host_units.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/base/random.h"
#include "kernels/cuda/sm80_w4ax_layout.h"
#include "tests/kernels/linear_tensors.h"

namespace comet {
namespace {

// mma.m16n8k64.s4 gives its sums to thread lane of row lane / 4 (+ 8), and multiplies registers of
// equal channels; so what counts is that a weight's nibble and its token's meet: the same register
// pair, byte and nibble. v of output n, channel k of a unit, found by way of the token's place.
int CodeIn(const uint8_t* unit, int n, int k) {
  const PackedInt4 token = PackedInt4Of(k);  // In one block.
  const int lane_idx = n / 8 * 4 + token.byte / 16;
  const int word = token.byte % 16 / 4;  // 2 half + s: half's mma, register s of its operand.
  const int tile = n % 8 / 2;
  const int register_idx = word % 2 * 2 + n % 2;  // Rows g and g + 8 of registers s.
  const int byte = unit[(word / 2 * 4 + tile) * sm80::kFragmentBytes + lane_idx * 16 +
                        register_idx * 4 + token.byte % 4];
  const int nibble = byte >> token.shift & 0xf;
  return nibble < 8 ? nibble : nibble - 16;
}

int CodeAt(const WeightTensors& weights, int n, int k) {
  const int byte = static_cast<int>(weights.codes.At(n, k / 2));
  const int nibble = k % 2 == 0 ? byte & 0xf : byte >> 4;
  return nibble < 8 ? nibble : nibble - 16;
}

void ExpectPacked(int num_outputs, int num_inputs, int num_int4) {
  Random random(7);
  const WeightTensors weights(WeightKind::kW4ax, num_outputs, num_inputs, num_int4, random);
  const std::vector<uint8_t> units = sm80::PackUnitsOnHost({.codes = weights.codes.view(),
                                                            .steps = weights.steps.view(),
                                                            .scale = weights.scale.view(),
                                                            .num_int4_channels = num_int4});
  const int num_blocks = CeilDiv(num_inputs, sm80::kUnitChannels);
  const int num_int4_blocks = num_int4 / sm80::kUnitChannels;
  const int num_rows = CeilDiv(num_outputs, sm80::kUnitOutputs);
  ASSERT_EQ(units.size(), static_cast<size_t>(num_rows * num_blocks) * sm80::kUnitBytes);
  int num_wrong = 0;
  for (int n = 0; n < num_rows * sm80::kUnitOutputs; ++n) {
    for (int step = 0; step < num_blocks; ++step) {
      // INT8 region first, then the INT4 region.
      const int block = (num_int4_blocks + step) % num_blocks;
      const uint8_t* unit =
          units.data() + (n / sm80::kUnitOutputs * num_blocks + step) * int64_t{sm80::kUnitBytes};
      const int output = n % sm80::kUnitOutputs;
      const int gamma = static_cast<int8_t>(unit[sm80::kUnitCodeBytes + output]);
      num_wrong += gamma != (n < num_outputs ? weights.steps.At(n, block) : 0);
      for (int channel = 0; channel < sm80::kUnitChannels; ++channel) {
        const int k = block * sm80::kUnitChannels + channel;
        const bool is_real = n < num_outputs && k < num_inputs;
        num_wrong += CodeIn(unit, output, channel) != (is_real ? CodeAt(weights, n, k) : 0);
      }
    }
  }
  EXPECT_EQ(num_wrong, 0) << "N " << num_outputs << " K " << num_inputs << " INT4 " << num_int4;
}

TEST(Sm80HostUnits, WeightsLieAsPackedTokensDo) {
  ExpectPacked(64, 128, 0);
  ExpectPacked(64, 128, 128);
  ExpectPacked(1, 64, 0);
  ExpectPacked(130, 576, 256);
  ExpectPacked(63, 1536, 1408);
}

TEST(Sm80HostUnits, PackedCodesFillTheirHalfOfTheRegionOnce) {
  std::vector<int> count(512, 0);
  for (int k = 0; k < 512; ++k) {
    const PackedInt4 place = PackedInt4Of(k);
    ASSERT_TRUE(place.byte >= 0 && place.byte < 256 && (place.shift == 0 || place.shift == 4));
    ++count[static_cast<size_t>(2 * place.byte + place.shift / 4)];
  }
  EXPECT_EQ(count, std::vector<int>(512, 1));
}

}  // namespace
}  // namespace comet
