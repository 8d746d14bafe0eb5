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

}  // namespace comet::ptx
