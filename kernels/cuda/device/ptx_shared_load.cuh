#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_address.cuh"

namespace comet::ptx {

// 16 bytes of shared memory, 16-byte aligned. Volatile: it stays where it stands among the
// multiplies, and holds no registers earlier. PTX ISA: "ld.shared".
__device__ __forceinline__ uint4 LoadShared16(const void* smem) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(SharedAddress(smem)));
  return value;
}

}  // namespace comet::ptx
