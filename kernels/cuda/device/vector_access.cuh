#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace comet::cuda {

// kCount neighbouring elements, moved by instructions of up to 16 bytes.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Vec {
  T values[kCount];
};

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(__half value) { return __half2float(value); }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float ToFloat(int8_t value) { return static_cast<float>(value); }

template <typename T>
__device__ __forceinline__ T FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half FromFloat<__half>(float value) {
  return __float2half_rn(value);
}

// Elements [offset, offset + kCount) of a row of `size` as floats, zeros past its end. kVectors:
// row and offset are aligned to min(16, kCount elements) bytes and size is a multiple of kCount.
template <bool kVectors, int kCount, typename T>
__device__ __forceinline__ void LoadFloats(float (&out)[kCount], const T* row, int offset,
                                           int size) {
  if constexpr (kVectors) {
    if (offset < size) {
      const Vec<T, kCount> vec = *reinterpret_cast<const Vec<T, kCount>*>(row + offset);
#pragma unroll
      for (int i = 0; i < kCount; ++i) out[i] = ToFloat(vec.values[i]);
      return;
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) out[i] = 0.0f;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) out[i] = offset + i < size ? ToFloat(row[offset + i]) : 0.0f;
  }
}

// Elements [offset, offset + kCount) as they are, zeros past the row's end; the conditions of
// kVectors hold. Unlike LoadFloats() nothing waits for the load before the values are used.
template <int kCount, typename T>
__device__ __forceinline__ Vec<T, kCount> LoadVec(const T* row, int offset, int size) {
  Vec<T, kCount> vec;
  if (offset < size) {
    vec = *reinterpret_cast<const Vec<T, kCount>*>(row + offset);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) vec.values[i] = FromFloat<T>(0.0f);
  }
  return vec;
}

template <int kCount, typename T>
__device__ __forceinline__ void ToFloats(float (&out)[kCount], const Vec<T, kCount>& vec) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] = ToFloat(vec.values[i]);
}

// The same elements as loaded. As words: halves of their own would each be moved by an instruction,
// which waits for the load.
template <typename T, int kCount>
struct alignas(sizeof(Vec<T, kCount>) < 16 ? sizeof(Vec<T, kCount>) : 16) PackedVec {
  uint32_t words[kCount * sizeof(T) / 4];
};

// Elements [offset, offset + kCount) as they are, zeros past the row's end; the conditions of
// kVectors hold. Unlike LoadFloats() nothing waits for the load before the values are used.
template <int kCount, typename T>
__device__ __forceinline__ PackedVec<T, kCount> LoadPacked(const T* row, int offset, int size) {
  PackedVec<T, kCount> vec = {};
  if (offset < size) vec = *reinterpret_cast<const PackedVec<T, kCount>*>(row + offset);
  return vec;
}

__device__ __forceinline__ void ToFloats(float& low, float& high, uint32_t pair_of_f16) {
  const float2 pair = __half22float2(reinterpret_cast<const __half2&>(pair_of_f16));
  low = pair.x, high = pair.y;
}

template <int kCount>
__device__ __forceinline__ void ToFloats(float (&out)[kCount],
                                         const PackedVec<__half, kCount>& vec) {
#pragma unroll
  for (int i = 0; i < kCount; i += 2) ToFloats(out[i], out[i + 1], vec.words[i / 2]);
}
template <int kCount>
__device__ __forceinline__ void ToFloats(float (&out)[kCount],
                                         const PackedVec<float, kCount>& vec) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] = __uint_as_float(vec.words[i]);
}

// The reverse: writes nothing past the row's end.
template <bool kVectors, int kCount, typename T>
__device__ __forceinline__ void StoreFloats(const float (&values)[kCount], T* row, int offset,
                                            int size) {
  if constexpr (kVectors) {
    Vec<T, kCount> vec;
#pragma unroll
    for (int i = 0; i < kCount; ++i) vec.values[i] = FromFloat<T>(values[i]);
    if (offset < size) *reinterpret_cast<Vec<T, kCount>*>(row + offset) = vec;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (offset + i < size) row[offset + i] = FromFloat<T>(values[i]);
    }
  }
}

}  // namespace comet::cuda
