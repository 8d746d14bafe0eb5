#include "kernels/cuda/cuda_status.h"

#include <string>

#include "kernels/base/str_cat.h"

namespace comet::cuda {
namespace {

StatusCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return StatusCode::kOk;
    case cudaErrorMemoryAllocation: return StatusCode::kResourceExhausted;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion: return StatusCode::kUnimplemented;
    default: return StatusCode::kInternal;  // The runtime's list is open.
  }
}

}  // namespace

Status StatusOf(cudaError_t error, std::string_view call) {
  if (error == cudaSuccess) return Status::Ok();
  return Status(CodeOf(error), StrCat("cuda: ", call, " is ", cudaGetErrorName(error), " (",
                                      cudaGetErrorString(error), "), expected success"));
}

Status LaunchStatus(cudaError_t error, std::string_view op) {
  // The name costs an allocation, which a launch that went well is spared.
  if (error == cudaSuccess) return Status::Ok();
  return StatusOf(error, StrCat("the launch of ", op));
}

Status LaunchStatus(std::string_view op) { return LaunchStatus(cudaGetLastError(), op); }

}  // namespace comet::cuda
