#pragma once

#include "kernels/cuda/cuda_device.h"

namespace comet::cuda {

// How many finite f16 gates, times an up of 1, differ between silu_mul's two ways to divide in a
// bit (but a zero's sign), of those that the shorter one takes.
Result<int> NumSiluGatesThatDiffer(CudaDevice& device);

}  // namespace comet::cuda
