#pragma once

#include "kernels/cuda/device/exact_math.cuh"
#include "kernels/cuda/device/ptx_reciprocal.cuh"
#include "kernels/cuda/device/vector_access.cuh"

namespace comet::cuda {

// One product of kernels/ops/silu_mul.h. A NaN gate makes the quotient NaN, whatever its
// exponential is.
__device__ __forceinline__ float SiluMulOf(float gate, float up) {
  return (gate / (1.0f + ExpOfNumber(-gate))) * up;
}

inline constexpr float kSmallGateMax = 80.0f;

// The same for a gate that is an f16 of at most kSmallGateMax, but for the sign of a zero: half the
// instructions of a division. A corrected reciprocal and one correction of the quotient, exact for
// all such gates (oracle/silu_values.h).
__device__ __forceinline__ float SiluMulOfSmallF16(float gate, float up) {
  const float divisor = 1.0f + ExpInBounds(-gate);
  float reciprocal = ptx::ApproximateReciprocal(divisor);
  reciprocal = __fmaf_rn(reciprocal, __fmaf_rn(-divisor, reciprocal, 1.0f), reciprocal);
  const float quotient = gate * reciprocal;
  return __fmaf_rn(reciprocal, __fmaf_rn(-divisor, quotient, gate), quotient) * up;
}

// kCount products, where the sign of a zero does not matter.
template <int kCount>
__device__ __forceinline__ void SiluMulOfF16(float (&out)[kCount],
                                             const PackedVec<__half, kCount>& gate,
                                             const PackedVec<__half, kCount>& up) {
  __half2 largest = __float2half2_rn(0.0f);
#pragma unroll
  for (const uint32_t& pair : gate.words) {
    largest = __hmax2_nan(largest, __habs2(reinterpret_cast<const __half2&>(pair)));
  }
  float gates[kCount];
  float ups[kCount];
  ToFloats(gates, gate);
  ToFloats(ups, up);
  if (__hble2(largest, __float2half2_rn(kSmallGateMax))) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      out[i] = SiluMulOfSmallF16(gates[i], ups[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      out[i] = SiluMulOf(gates[i], ups[i]);
    }
  }
}

}  // namespace comet::cuda
