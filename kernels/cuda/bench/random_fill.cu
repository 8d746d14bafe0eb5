// Mapping  A grid-stride loop over 4-byte words.

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/base/random.h"
#include "kernels/cuda/bench/random_fill.h"
#include "kernels/cuda/cuda_status.h"

namespace comet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kCtas = 2048;

// In [-1, 1), a multiple of 2^-23.
__device__ float SignedUnit(uint32_t bits) {
  return static_cast<float>(static_cast<int32_t>(bits) >> 8) * 0x1p-23f;
}

__device__ uint32_t ValueOf(uint32_t bits, FillKind kind) {
  switch (kind) {
    case FillKind::kF32: return __float_as_uint(SignedUnit(bits));
    case FillKind::kF16: {
      const __half2 pair = __floats2half2_rn(SignedUnit(bits), SignedUnit(bits * 0x9e3779b9u));
      return *reinterpret_cast<const uint32_t*>(&pair);
    }
    case FillKind::kInt8: {
      const uint32_t is_lowest = __vcmpeq4(bits, 0x80808080u);
      return bits & ~is_lowest;
    }
    // Sign, exponent 4 to 7 of bias 7, mantissa: magnitudes from 1/8 to 2.
    case FillKind::kFp8E4m3: return (bits & 0x9f9f9f9fu) | 0x20202020u;
  }
  return 0;
}

__global__ void FillKernel(uint32_t* words, int64_t num_words, FillKind kind, uint64_t seed) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < num_words; i += stride) {
    words[i] = ValueOf(static_cast<uint32_t>(MixBits(seed + static_cast<uint64_t>(i)) >> 32), kind);
  }
}

__global__ void CopyKernel(uint4* destination, const uint4* source, int64_t num_vectors) {
  constexpr int kInFlight = 4;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (int64_t i = first; i < num_vectors; i += kInFlight * stride) {
    uint4 vectors[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      if (i + j * stride < num_vectors) vectors[j] = __ldcs(source + i + j * stride);
    }
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      if (i + j * stride < num_vectors) __stcs(destination + i + j * stride, vectors[j]);
    }
  }
}

}  // namespace

Status FillRandom(CudaDevice& device, void* data, int64_t num_bytes, FillKind kind, uint64_t seed) {
  COMET_CHECK(num_bytes % 4 == 0);
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  FillKernel<<<kCtas, kThreads, 0, static_cast<cudaStream_t>(device.stream().handle())>>>(
      static_cast<uint32_t*>(data), num_bytes / 4, kind, seed);
  return LaunchStatus("random_fill");
}

Status CopyByKernel(CudaDevice& device, void* destination, const void* source, int64_t num_bytes) {
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  CopyKernel<<<kCtas, kThreads, 0, static_cast<cudaStream_t>(device.stream().handle())>>>(
      static_cast<uint4*>(destination), static_cast<const uint4*>(source), num_bytes / 16);
  return LaunchStatus("copy_by_kernel");
}

}  // namespace comet::cuda
