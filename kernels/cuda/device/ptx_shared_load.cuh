#pragma once

#include <cstdint>

namespace comet::ptx {

// 16 bytes at a shared address, 16-byte aligned. Volatile: it stays where it stands among the
// multiplies, and holds no registers earlier. PTX ISA: "ld.shared".
__device__ __forceinline__ uint4 LoadShared16(uint32_t smem_address) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(smem_address));
  return value;
}

// The same of 8 bytes.
__device__ __forceinline__ uint2 LoadShared8(uint32_t smem_address) {
  uint2 value;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];\n"
               : "=r"(value.x), "=r"(value.y)
               : "r"(smem_address));
  return value;
}

// The same of 4 bytes.
__device__ __forceinline__ uint32_t LoadShared4(uint32_t smem_address) {
  uint32_t value;
  asm volatile("ld.shared.u32 %0, [%1];\n" : "=r"(value) : "r"(smem_address));
  return value;
}

// The same of 2 bytes, in the low half of a register.
__device__ __forceinline__ uint32_t LoadShared2(uint32_t smem_address) {
  uint16_t value;
  asm volatile("ld.shared.u16 %0, [%1];\n" : "=h"(value) : "r"(smem_address));
  return value;
}

// Stores 16 bytes at a shared address, where `is_wanted`, without a branch. PTX ISA: "st.shared".
__device__ __forceinline__ void StoreShared16If(bool is_wanted, uint32_t smem_address,
                                                const uint4& value) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %5, 0;\n"
      "@p st.shared.v4.u32 [%0], {%1, %2, %3, %4};\n"
      "}\n" ::"r"(smem_address),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(static_cast<int>(is_wanted))
      : "memory");
}

}  // namespace comet::ptx
