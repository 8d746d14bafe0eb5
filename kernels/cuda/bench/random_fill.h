#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_device.h"

namespace comet::cuda {

// What random bytes stand for. All are finite and none is the type's extreme negative code.
enum class FillKind { kF32, kF16, kInt8, kFp8E4m3 };

// Fills device memory with random values of magnitude about 1 (floats) or uniform codes: products
// of zeros draw less power, so they run faster than real ones.
Status FillRandom(CudaDevice& device, void* data, int64_t num_bytes, FillKind kind, uint64_t seed);

// Copies within the device by a kernel of 16-byte loads and stores: faster on Hopper than the
// runtime's copy. `num_bytes` is a multiple of 64.
Status CopyByKernel(CudaDevice& device, void* destination, const void* source, int64_t num_bytes);

}  // namespace comet::cuda
