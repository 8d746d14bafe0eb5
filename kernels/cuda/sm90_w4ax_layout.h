#pragma once

#include "kernels/cuda/unit_layout.h"

// How sm90_gemm_kernel.cuh wants W4Ax weights in device memory: units of unit_layout.h, as one
// warpgroup multiplies them.
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
namespace comet::sm90 {

using cuda::kUnitBytes;
using cuda::kUnitChannels;
using cuda::kUnitCodeBytes;
using cuda::kUnitOutputs;

}  // namespace comet::sm90
