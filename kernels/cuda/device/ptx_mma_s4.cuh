#pragma once

#include <cstdint>

namespace comet::ptx {

// sum = a * b + addend on signed nibbles, 16 x 64 times 64 x 8, modulo 2^32. With g = lane / 4 and
// t = lane % 4: a[h + 2 s] is row g + 8 h, columns 32 s + 8 t ...; b is column g, rows 8 t ... and
// 32 + 8 t ...; sums as of MultiplyS8(). Needs sm_80; from sm_90 on it is emulated. Volatile, as
// its order among others is what hides its latency. PTX ISA: "mma".
__device__ __forceinline__ void MultiplyS4(int (&sum)[4], const uint4& a, uint32_t b_low,
                                           uint32_t b_high, const int (&addend)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %11, %12, %13};\n"
      : "=r"(sum[0]), "=r"(sum[1]), "=r"(sum[2]), "=r"(sum[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b_low), "r"(b_high), "r"(addend[0]),
        "r"(addend[1]), "r"(addend[2]), "r"(addend[3]));
}

}  // namespace comet::ptx
