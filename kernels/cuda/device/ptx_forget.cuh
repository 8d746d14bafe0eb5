#pragma once

#include <cstdint>

namespace comet::ptx {

// Makes `x` an unknown value to the compiler: what follows from it is worked out anew from here on,
// where it would else be kept in registers.
__device__ __forceinline__ void Forget(int& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void Forget(uint32_t& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void Forget(float& x) { asm volatile("" : "+f"(x)); }

// A constant in a register: as a second constant of one instruction it costs none of its own.
__device__ __forceinline__ uint32_t InRegister(uint32_t x) {
  asm("" : "+r"(x));
  return x;
}

}  // namespace comet::ptx
