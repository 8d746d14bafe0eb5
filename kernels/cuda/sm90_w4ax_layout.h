#pragma once

#include <cstdint>

// How sm90_gemm_kernel.cuh wants W4Ax weights in device memory.
//
// A unit is 64 output channels x one block of 128 input channels, as one warpgroup multiplies it:
//
//   [0, 4096)     codes: thread i of the warpgroup reads 16 bytes at 16 i and at 2048 + 16 i, eight
//                 32-bit words. Word 2 step + half holds v + 8 of eight channels of one output:
//                 byte b has channel 32 step + 4 (lane % 4) + b in bits 0-3 and the channel 16
//                 further in bits 4-7. These are the bytes of wgmma's register operand.
//   [4096, 4160)  steps: gamma of the outputs 16 warp + 2 (lane / 4) + half, at 4096 + 16 warp +
//                 2 (lane / 4) + half, so a thread reads both of its outputs' in one access.
//
// Output 16 warp + 2 (lane / 4) + half of the unit is row 16 warp + lane / 4 + 8 half of wgmma's
// tile: each thread accumulates two neighbouring outputs and stores them together.
//
// The units of 64 outputs are contiguous, in the order the product takes them: blocks of the INT8
// region first, then the INT4 region. Outputs past N have steps 0; channels past K have v = 0.
namespace comet::sm90 {

inline constexpr int kUnitOutputs = 64;
inline constexpr int kUnitChannels = 128;
inline constexpr int kUnitCodeBytes = kUnitOutputs * kUnitChannels / 2;
inline constexpr int kUnitBytes = kUnitCodeBytes + kUnitOutputs;  // 4.06 bits a weight.

// The block of input channels that the `step_idx`-th unit of a row of units holds.
constexpr int BlockOfStep(int step_idx, int num_int4_blocks, int num_int8_blocks) {
  return step_idx < num_int8_blocks ? num_int4_blocks + step_idx : step_idx - num_int8_blocks;
}

}  // namespace comet::sm90
