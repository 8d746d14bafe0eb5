#pragma once

#include <cuda_runtime.h>

#include "kernels/base/status.h"
#include "kernels/ops/rope_append.h"

namespace comet::cuda {

// kernels/ops/rope_append.h on `stream`. Errors: the contract's; those of CheckKvKernels().
Status RopeAppend(const RopeAppendArgs& args, cudaStream_t stream);

}  // namespace comet::cuda
