#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_address.cuh"

namespace comet::ptx {

// Loads four matrices of 8 rows x 16 bytes: lane i gives the address of row i % 8 of matrix i / 8,
// and gets of each matrix the bytes 4 (i % 4) ... of row i / 4. Needs sm_75. PTX ISA: "ldmatrix".
__device__ __forceinline__ void LoadMatrices(uint32_t (&frag)[4], const void* smem_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(frag[0]), "=r"(frag[1]), "=r"(frag[2]), "=r"(frag[3])
               : "r"(SharedAddress(smem_row))
               : "memory");
}

// acc += a * b on signed bytes, 16 x 32 times 32 x 8, modulo 2^32. With g = lane / 4, t = lane % 4:
// a[h + 2 s] is row g + 8 h, columns 16 s + 4 t ...; b is column g, rows 4 t ... and 16 + 4 t ...;
// acc[2 h + i] is row g + 8 h, column 2 t + i. Needs sm_80. PTX ISA: "mma".
__device__ __forceinline__ void MultiplyS8(int (&acc)[4], const uint32_t (&a)[4], uint32_t b_low,
                                           uint32_t b_high) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(acc[0]), "+r"(acc[1]), "+r"(acc[2]), "+r"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

// The same with a sum of its own and signed or unsigned bytes of a. Volatile, as its order among
// others is what hides its latency.
template <bool kIsUnsigned>
__device__ __forceinline__ void Multiply8(int (&sum)[4], const uint4& a, uint32_t b_low,
                                          uint32_t b_high, const int (&addend)[4]) {
  if constexpr (kIsUnsigned) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %11, %12, %13};\n"
        : "=r"(sum[0]), "=r"(sum[1]), "=r"(sum[2]), "=r"(sum[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b_low), "r"(b_high), "r"(addend[0]),
          "r"(addend[1]), "r"(addend[2]), "r"(addend[3]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %11, %12, %13};\n"
        : "=r"(sum[0]), "=r"(sum[1]), "=r"(sum[2]), "=r"(sum[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b_low), "r"(b_high), "r"(addend[0]),
          "r"(addend[1]), "r"(addend[2]), "r"(addend[3]));
  }
}

}  // namespace comet::ptx
