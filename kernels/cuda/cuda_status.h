#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "kernels/base/status.h"

namespace comet::cuda {

// The runtime's answer to `call`. Lack of memory is kResourceExhausted, code that this build does
// not hold for the device is kUnimplemented, all else is kInternal and poisons the context.
Status StatusOf(cudaError_t error, std::string_view call);

// The runtime's answer to a launch by `op`.
Status LaunchStatus(cudaError_t error, std::string_view op);
// What the launches since the last call of this thread met; `op` names the caller.
Status LaunchStatus(std::string_view op);

}  // namespace comet::cuda
