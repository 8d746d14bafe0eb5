#include "kernels/cuda/oracle/sm90_host_units.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cuda/sm90_w4ax_layout.h"
#include "tests/kernels/expect_units.h"

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

int CodeOf(const uint8_t* unit, int output, int channel) {
  return CodeIn(unit, RowOf(output), channel);
}

TEST(Sm90HostUnits, UnitsHoldTheOperandsOfWgmma) {
  cuda::ExpectUnitsOfManyShapes({.pack = sm90::PackUnitsOnHost, .code_in = CodeOf});
}

}  // namespace
}  // namespace comet
