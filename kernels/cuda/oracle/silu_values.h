#pragma once

#include "kernels/cuda/cuda_device.h"

namespace comet::cuda {

struct SiluGates {
  int num_compared = 0;
  int num_different = 0;  // In a bit, but a zero's sign.
};

// silu_mul's two ways to divide, for every f16 gate that the shorter one takes, times an up of 1.
Result<SiluGates> CompareSiluGates(CudaDevice& device);

}  // namespace comet::cuda
