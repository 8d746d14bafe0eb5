#pragma once

namespace comet::ptx {

// The larger of both, NaN if either is. Needs sm_80. PTX ISA: "max.NaN.f32".
__device__ __forceinline__ float MaximumOrNan(float a, float b) {
  float maximum;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(maximum) : "f"(a), "f"(b));
  return maximum;
}

// The smaller of both, NaN if either is. Needs sm_80. PTX ISA: "min.NaN.f32".
__device__ __forceinline__ float MinimumOrNan(float a, float b) {
  float minimum;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(minimum) : "f"(a), "f"(b));
  return minimum;
}

}  // namespace comet::ptx
