#pragma once

#include <cstdint>

namespace comet::ptx {

// `pointer` goes on by `distance` bytes, here and nowhere else: compilers like to keep sums of it
// with offsets in registers of their own. PTX ISA: "add", "cvt".
template <typename T>
__device__ __forceinline__ void Advance(T*& pointer, uint32_t distance) {
  asm volatile(
      "{\n"
      ".reg .u64 wide;\n"
      "cvt.u64.u32 wide, %1;\n"
      "add.u64 %0, %0, wide;\n"
      "}\n"
      : "+l"(pointer)
      : "r"(distance));
}

// The address n * distance bytes from `pointer` on, by one instruction. PTX ISA: "mad.wide".
template <typename T>
__device__ __forceinline__ const T* PointerAt(const T* pointer, uint32_t distance, uint32_t n) {
  const T* result;
  asm volatile("mad.wide.u32 %0, %1, %2, %3;\n"
               : "=l"(result)
               : "r"(distance), "r"(n), "l"(pointer));
  return result;
}

}  // namespace comet::ptx
