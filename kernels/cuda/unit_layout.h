#pragma once

// What the layouts of W4Ax weights in device memory have in common: sm80_w4ax_layout.h,
// sm90_w4ax_layout.h.
//
// A unit is 64 output channels x one block of 128 input channels: 4096 bytes of codes in an order
// of the layout's own, then gamma of the 64 outputs. The units of 64 outputs are contiguous, in the
// order the product takes them: blocks of the INT8 region first, then the INT4 region. Outputs past
// N have steps 0; channels past K have v = 0.
namespace comet::cuda {

inline constexpr int kUnitOutputs = 64;
inline constexpr int kUnitChannels = 128;
inline constexpr int kUnitCodeBytes = kUnitOutputs * kUnitChannels / 2;
inline constexpr int kUnitBytes = kUnitCodeBytes + kUnitOutputs;  // 4.06 bits a weight.

// The block of input channels that the `step_idx`-th unit of a row of units holds.
constexpr int BlockOfStep(int step_idx, int num_int4_blocks, int num_int8_blocks) {
  return step_idx < num_int8_blocks ? num_int4_blocks + step_idx : step_idx - num_int8_blocks;
}

}  // namespace comet::cuda
