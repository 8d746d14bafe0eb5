#pragma once

#include "kernels/base/status.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops/sample.h"

namespace comet::cuda {

// kernels/ops/sample.h by `launcher`; the adjusted logits are in `scratch`. Errors: the contract's;
// kInvalidArgument: no scratch; kUnimplemented: more than 2^20 ids.
Status Sample(const SampleArgs& args, Launcher& launcher);

}  // namespace comet::cuda
