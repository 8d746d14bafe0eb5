#pragma once

#include <cuda_runtime.h>

#include "kernels/base/status.h"
#include "kernels/ops/sample.h"

namespace comet::cuda {

// kernels/ops/sample.h on `stream`; the adjusted logits are in `scratch`. Errors: the contract's;
// kInvalidArgument: no scratch; kUnimplemented: more than 2^20 ids.
Status Sample(const SampleArgs& args, cudaStream_t stream);

}  // namespace comet::cuda
