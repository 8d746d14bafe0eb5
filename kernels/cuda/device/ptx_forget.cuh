#pragma once

#include <cstdint>

namespace comet::ptx {

// Makes `x` an unknown value to the compiler: what follows from it is worked out anew from here on,
// where it would else be kept in registers.
__device__ __forceinline__ void Forget(int& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void Forget(uint32_t& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void Forget(float& x) { asm volatile("" : "+f"(x)); }

// `pointer` goes on by `distance` bytes, here and nowhere else: compilers like to keep sums of it
// with offsets in registers of their own.
template <typename T>
__device__ __forceinline__ void Advance(T*& pointer, uint32_t distance) {
  asm volatile("{\n.reg .u64 wide;\ncvt.u64.u32 wide, %1;\nadd.u64 %0, %0, wide;\n}\n"
               : "+l"(pointer)
               : "r"(distance));
}

// `pointer` + n * distance by one multiplication, n a constant.
template <typename T>
__device__ __forceinline__ const T* PointerAt(const T* pointer, uint32_t distance, int n) {
  const T* result;
  asm volatile("mad.wide.u32 %0, %1, %2, %3;\n"
               : "=l"(result)
               : "r"(distance), "r"(n), "l"(pointer));
  return result;
}

// `x`, kept in a register: it comes by a shuffle from the thread itself, and so cannot be worked
// out anew from the thread's index wherever it is used.
__device__ __forceinline__ uint32_t InRegister(uint32_t x) {
  return __shfl_sync(~0u, x, static_cast<int>(threadIdx.x % 32));
}

}  // namespace comet::ptx
