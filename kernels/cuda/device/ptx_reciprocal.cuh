#pragma once

namespace comet::ptx {

// 1 / x within 1 ulp for normal x and quotient. Any sm. PTX ISA: "rcp.approx.ftz".
__device__ __forceinline__ float ApproximateReciprocal(float x) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
}

}  // namespace comet::ptx
