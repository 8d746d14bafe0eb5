#include "kernels/cuda/oracle/sm80_host_units.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cuda/sm80_w4ax_layout.h"
#include "tests/kernels/expect_units.h"

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

TEST(Sm80HostUnits, WeightsLieAsPackedTokensDo) {
  cuda::ExpectUnitsOfManyShapes({.pack = sm80::PackUnitsOnHost, .code_in = CodeIn});
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
