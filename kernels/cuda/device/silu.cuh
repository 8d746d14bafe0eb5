#pragma once

#include "kernels/cuda/device/exact_math.cuh"

namespace comet::cuda {

// One product of kernels/ops/silu_mul.h. A NaN gate makes the quotient NaN, whatever its
// exponential is.
__device__ __forceinline__ float SiluMulOf(float gate, float up) {
  return (gate / (1.0f + ExpOfNumber(-gate))) * up;
}

}  // namespace comet::cuda
