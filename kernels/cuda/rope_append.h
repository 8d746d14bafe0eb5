#pragma once

#include "kernels/base/status.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops/rope_append.h"

namespace comet::cuda {

// kernels/ops/rope_append.h by `launcher`. Errors: the contract's; those of CheckKvKernels().
Status RopeAppend(const RopeAppendArgs& args, Launcher& launcher);

}  // namespace comet::cuda
