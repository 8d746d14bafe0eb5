#pragma once

#include <cstdint>

namespace comet::ptx {

// (x & kMask) | kSet in one instruction: compilers take two, as each has room for one constant. PTX
// ISA: "lop3"; 0xea is (a & b) | c.
template <uint32_t kMask, uint32_t kSet>
__device__ __forceinline__ uint32_t SelectAndSet(uint32_t x) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(x), "n"(kMask), "n"(kSet));
  return result;
}

template <uint32_t kMask>
__device__ __forceinline__ uint32_t SelectAndSet(uint32_t x, uint32_t set) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(x), "n"(kMask), "r"(set));
  return result;
}

// x ^ (flips & kMask) in one instruction. 0x78 is a ^ (b & c).
template <uint32_t kMask>
__device__ __forceinline__ uint32_t FlipBits(uint32_t x, uint32_t flips) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0x78;" : "=r"(result) : "r"(x), "r"(flips), "n"(kMask));
  return result;
}

// Byte `idx`, a constant, with its sign extended, in one instruction. PTX ISA: "prmt", where a
// selector's fourth bit repeats the sign; __byte_perm() masks it.
__device__ __forceinline__ int SignedByte(uint32_t x, int idx) {
  int result;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(result) : "r"(x), "r"(0x8880 + 0x1111 * idx));
  return result;
}

}  // namespace comet::ptx
