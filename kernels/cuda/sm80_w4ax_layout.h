#pragma once

#include <cstdint>

// How sm80_gemm_kernel.cuh wants W4Ax weights in device memory.
//
// A unit is 64 output channels x one block of 128 input channels, as one warp multiplies it:
//
//   [0, 4096)     codes: v in two's complement, in fragments of 512 bytes, [half 2][tile 4]; lane i
//                 reads the 16 bytes at 16 i of one: four words, [s 2][h 2], of the output
//                 8 (i / 4) + 2 tile + h and the eight channels from 64 half + 16 (i % 4) + 8 s on.
//                 Byte b of a word has channel b of the eight in bits 0-3 and channel b + 4 in bits
//                 4-7. A fragment is one operand of mma.m16n8k64 as it lies, and the two operands
//                 of mma.m16n8k32 once low and high nibbles have become bytes.
//   [4096, 4160)  steps: gamma of the 64 outputs.
//
// So output 8 g + 2 tile + h is row g + 8 h of mma tile `tile`: a thread's sums are eight
// neighbouring outputs, which it stores together. Codes of tokens lie in the same order
// (PackedCodeByte() of kernels/ops/linear_input.h), so their fragments are 16-byte loads too.
//
// The units of 64 outputs are contiguous, in the order the product takes them: blocks of the INT8
// region first, then the INT4 region. Outputs past N have steps 0; channels past K have v = 0.
namespace comet::sm80 {

inline constexpr int kUnitOutputs = 64;
inline constexpr int kUnitChannels = 128;
inline constexpr int kUnitCodeBytes = kUnitOutputs * kUnitChannels / 2;
inline constexpr int kUnitBytes = kUnitCodeBytes + kUnitOutputs;  // 4.06 bits a weight.
inline constexpr int kFragmentBytes = 512;

// The block of input channels that the `step_idx`-th unit of a row of units holds.
constexpr int BlockOfStep(int step_idx, int num_int4_blocks, int num_int8_blocks) {
  return step_idx < num_int8_blocks ? num_int4_blocks + step_idx : step_idx - num_int8_blocks;
}

// The checkpoint's nibbles c0 c1 ... c7, from bit 0 on, as a unit's bytes c0 | c4 << 4, c1 | c5 <<
// 4, c2 | c6 << 4, c3 | c7 << 4.
constexpr uint32_t InterleaveCodes(uint32_t nibbles) {
  uint32_t word = 0;
  for (int i = 0; i < 8; ++i) word |= (nibbles >> (4 * i) & 0xf) << (i % 4 * 8 + i / 4 * 4);
  return word;
}

}  // namespace comet::sm80
