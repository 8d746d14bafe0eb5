#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The order of a row's candidates, as integers: larger keys come first, by value, then by the lower
// id. Keys of a row differ.
namespace comet::cuda::sample {

constexpr int kIdBits = 20;
constexpr int kIdsMax = 1 << kIdBits;

__device__ __forceinline__ uint64_t OrderKey(float value, int id) {
  const uint32_t bits = __float_as_uint(value + 0.0f);  // -0 counts as 0.
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{ascending} << kIdBits | static_cast<uint32_t>(kIdsMax - 1 - id);
}
__device__ __forceinline__ int IdOf(uint64_t key) {
  return kIdsMax - 1 - static_cast<int>(key & (kIdsMax - 1));
}
__device__ __forceinline__ float ValueOf(uint64_t key) {
  const uint32_t ascending = static_cast<uint32_t>(key >> kIdBits);
  return __uint_as_float((ascending & 0x80000000u) != 0 ? ascending & 0x7fffffffu : ~ascending);
}
constexpr uint64_t kAboveAll = uint64_t{1} << (32 + kIdBits);

}  // namespace comet::cuda::sample
