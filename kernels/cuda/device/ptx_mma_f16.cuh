#pragma once

#include <cstdint>

namespace comet::ptx {

// acc += a * b: a 16 x 16 fp16, row-major fragments (rows g, g + 8 by columns 2t, 2t + 8); b 16 x 8
// fp16; acc 16 x 8 fp32 (row g columns 2t, 2t + 1, then row g + 8). Lane = 4 g + t. Subnormals
// count in full. Needs sm_80. PTX ISA: "mma.m16n8k16".
__device__ __forceinline__ void MmaF16(float (&acc)[4], const uint32_t (&a)[4], uint32_t b_lo,
                                       uint32_t b_hi) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_lo), "r"(b_hi));
}

// Loads four 8 x 8 matrices of 16-bit elements, transposed: lane l gives the address of row l % 8
// of matrix l / 8 (16 bytes, aligned) and receives, of matrix i in out[i], rows 2t and 2t + 1 of
// column g. Needs sm_75. PTX ISA: "ldmatrix".
__device__ __forceinline__ void LoadMatrices4Transposed(uint32_t (&out)[4], uint32_t smem_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(smem_row)
               : "memory");
}

// 2^x within 2 ulp; 2^-infinity is 0. PTX ISA: "ex2.approx".
__device__ __forceinline__ float Exp2Approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace comet::ptx
