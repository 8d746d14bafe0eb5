#pragma once

#include <cstdint>

#include "kernels/cuda/unit_layout.h"

// How sm80_gemm_kernel.cuh wants W4Ax weights in device memory: units of unit_layout.h, as one warp
// multiplies them.
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
namespace comet::sm80 {

using cuda::kUnitBytes;
using cuda::kUnitChannels;
using cuda::kUnitCodeBytes;
using cuda::kUnitOutputs;
inline constexpr int kFragmentBytes = 512;

// The checkpoint's nibbles c0 c1 ... c7, from bit 0 on, as a unit's bytes c0 | c4 << 4, c1 | c5 <<
// 4, c2 | c6 << 4, c3 | c7 << 4.
constexpr uint32_t InterleaveCodes(uint32_t nibbles) {
  uint32_t word = 0;
  for (int i = 0; i < 8; ++i) word |= (nibbles >> (4 * i) & 0xf) << (i % 4 * 8 + i / 4 * 4);
  return word;
}

}  // namespace comet::sm80
