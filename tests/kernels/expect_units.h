#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/random.h"
#include "kernels/cuda/unit_layout.h"
#include "tests/kernels/linear_tensors.h"

namespace comet::cuda {

// How a layout of units is read back.
struct UnitLayout {
  std::vector<uint8_t> (*pack)(const W4axWeights& weights);
  // The code of an output and channel of a unit, by way of the operand that the kernel makes of it.
  int (*code_in)(const uint8_t* unit, int output, int channel);
};

// Every code and step of packed random weights lies where the layout has it, and zeros past N and
// K: the INT8 region's blocks first, then the INT4 region's.
inline void ExpectUnits(const UnitLayout& layout, int num_outputs, int num_inputs, int num_int4) {
  Random random(7);
  const WeightTensors weights(WeightKind::kW4ax, num_outputs, num_inputs, num_int4, random);
  const std::vector<uint8_t> units = layout.pack({.codes = weights.codes.view(),
                                                  .steps = weights.steps.view(),
                                                  .scale = weights.scale.view(),
                                                  .num_int4_channels = num_int4});
  const int num_blocks = CeilDiv(num_inputs, kUnitChannels);
  const int num_int4_blocks = num_int4 / kUnitChannels;
  const int num_rows = CeilDiv(num_outputs, kUnitOutputs);
  ASSERT_EQ(units.size(), static_cast<size_t>(num_rows * num_blocks) * kUnitBytes);
  int num_wrong = 0;
  for (int n = 0; n < num_rows * kUnitOutputs; ++n) {
    for (int step = 0; step < num_blocks; ++step) {
      const int block = (num_int4_blocks + step) % num_blocks;
      const uint8_t* unit =
          units.data() + (n / kUnitOutputs * num_blocks + step) * int64_t{kUnitBytes};
      const int output = n % kUnitOutputs;
      const int gamma = static_cast<int8_t>(unit[kUnitCodeBytes + output]);
      num_wrong += gamma != (n < num_outputs ? weights.steps.At(n, block) : 0);
      for (int channel = 0; channel < kUnitChannels; ++channel) {
        const int k = block * kUnitChannels + channel;
        int expected = 0;
        if (n < num_outputs && k < num_inputs) {
          const auto pair = static_cast<uint8_t>(static_cast<int>(weights.codes.At(n, k / 2)));
          expected = CodeAt(&pair, static_cast<size_t>(k % 2));
        }
        num_wrong += layout.code_in(unit, output, channel) != expected;
      }
    }
  }
  EXPECT_EQ(num_wrong, 0) << "N " << num_outputs << " K " << num_inputs << " INT4 " << num_int4;
}

// Whole units, one output, K and N off them, both regions and one.
inline void ExpectUnitsOfManyShapes(const UnitLayout& layout) {
  ExpectUnits(layout, 64, 128, 0);
  ExpectUnits(layout, 64, 128, 128);
  ExpectUnits(layout, 1, 64, 0);
  ExpectUnits(layout, 130, 576, 256);
  ExpectUnits(layout, 63, 1536, 1408);
}

}  // namespace comet::cuda
