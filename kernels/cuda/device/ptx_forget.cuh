#pragma once

#include <cstdint>

namespace comet::ptx {

// Makes `x` an unknown value to the compiler: what follows from it is worked out anew from here on,
// where it would else be kept in registers.
__device__ __forceinline__ void Forget(int& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void Forget(uint32_t& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void Forget(float& x) { asm volatile("" : "+f"(x)); }

// `x`, kept in a register: it comes by a shuffle from the thread itself, and so cannot be worked
// out anew from the thread's index wherever it is used.
__device__ __forceinline__ uint32_t InRegister(uint32_t x) {
  return __shfl_sync(~0u, x, static_cast<int>(threadIdx.x % 32));
}

}  // namespace comet::ptx
