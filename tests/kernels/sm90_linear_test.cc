#include "kernels/cuda/oracle/host_units.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/base/random.h"
#include "kernels/cuda/sm90_w4ax_layout.h"
#include "tests/kernels/linear_tensors.h"

namespace comet {
namespace {

// Where element (row, channel) of a unit lies in wgmma's register operand, from its definition:
// thread, step of 32 channels, register and byte.
struct OperandPlace {
  int thread_idx;
  int step;
  int register_idx;
  int byte_idx;
};

OperandPlace PlaceOf(int row, int channel) {
  const int in_step = channel % 32;
  return {.thread_idx = row / 16 * 32 + row % 8 * 4 + in_step % 16 / 4,
          .step = channel / 32,
          .register_idx = row % 16 / 8 + in_step / 16 * 2,
          .byte_idx = in_step % 4};
}

// v of an element of a unit, found by way of the operand that the kernel's unpacking makes: words
// 2 step + half hold registers half (low nibbles) and 2 + half (high nibbles).
int CodeIn(const uint8_t* unit, int row, int channel) {
  const OperandPlace place = PlaceOf(row, channel);
  const int word_idx = 2 * place.step + place.register_idx % 2;
  const int offset = word_idx / 4 * 2048 + place.thread_idx * 16 + word_idx % 4 * 4;
  const int byte = unit[offset + place.byte_idx];
  return (place.register_idx < 2 ? byte & 0xf : byte >> 4) - 8;
}

// The row of wgmma's tile that computes an output of a unit.
int RowOf(int output) { return output / 16 * 16 + output % 16 / 2 + output % 2 * 8; }

int CodeAt(const WeightTensors& weights, int n, int k) {
  const int byte = static_cast<int>(weights.codes.At(n, k / 2));
  const int nibble = k % 2 == 0 ? byte & 0xf : byte >> 4;
  return nibble < 8 ? nibble : nibble - 16;
}

void ExpectPacked(int num_outputs, int num_inputs, int num_int4) {
  Random random(7);
  const WeightTensors weights(WeightKind::kW4ax, num_outputs, num_inputs, num_int4, random);
  const std::vector<uint8_t> units = sm90::PackUnitsOnHost({.codes = weights.codes.view(),
                                                            .steps = weights.steps.view(),
                                                            .scale = weights.scale.view(),
                                                            .num_int4_channels = num_int4});
  const int num_blocks = CeilDiv(num_inputs, sm90::kUnitChannels);
  const int num_int4_blocks = num_int4 / sm90::kUnitChannels;
  const int num_rows = CeilDiv(num_outputs, sm90::kUnitOutputs);
  ASSERT_EQ(units.size(), static_cast<size_t>(num_rows * num_blocks) * sm90::kUnitBytes);
  int num_wrong = 0;
  for (int n = 0; n < num_rows * sm90::kUnitOutputs; ++n) {
    for (int step = 0; step < num_blocks; ++step) {
      // INT8 region first, then the INT4 region.
      const int block = (num_int4_blocks + step) % num_blocks;
      const uint8_t* unit =
          units.data() + (n / sm90::kUnitOutputs * num_blocks + step) * int64_t{sm90::kUnitBytes};
      const int output = n % sm90::kUnitOutputs;
      const int gamma = static_cast<int8_t>(unit[sm90::kUnitCodeBytes + output]);
      num_wrong += gamma != (n < num_outputs ? weights.steps.At(n, block) : 0);
      for (int channel = 0; channel < sm90::kUnitChannels; ++channel) {
        const int k = block * sm90::kUnitChannels + channel;
        const bool is_real = n < num_outputs && k < num_inputs;
        num_wrong += CodeIn(unit, RowOf(output), channel) != (is_real ? CodeAt(weights, n, k) : 0);
      }
    }
  }
  EXPECT_EQ(num_wrong, 0) << "N " << num_outputs << " K " << num_inputs << " INT4 " << num_int4;
}

TEST(Sm90Linear, UnitsHoldTheOperandsOfWgmma) {
  ExpectPacked(64, 128, 0);
  ExpectPacked(64, 128, 128);
  ExpectPacked(1, 64, 0);
  ExpectPacked(130, 576, 256);
  ExpectPacked(63, 1536, 1408);
}

}  // namespace
}  // namespace comet
