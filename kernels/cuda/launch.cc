#include "kernels/cuda/launch.h"

namespace comet::cuda {
namespace {

Result<int> Attribute(cudaDeviceAttr attribute, int device_idx) {
  int value = 0;
  COMET_RETURN_IF_ERROR(
      StatusOf(cudaDeviceGetAttribute(&value, attribute, device_idx), "cudaDeviceGetAttribute"));
  return value;
}

}  // namespace

Result<DeviceLimits> QueryDeviceLimits() {
  int device_idx = 0;
  COMET_RETURN_IF_ERROR(StatusOf(cudaGetDevice(&device_idx), "cudaGetDevice"));
  DeviceLimits limits;
  COMET_ASSIGN_OR_RETURN(limits.num_sms, Attribute(cudaDevAttrMultiProcessorCount, device_idx));
  COMET_ASSIGN_OR_RETURN(limits.compute_major,
                         Attribute(cudaDevAttrComputeCapabilityMajor, device_idx));
  COMET_ASSIGN_OR_RETURN(limits.smem_bytes_max,
                         Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device_idx));
  return limits;
}

}  // namespace comet::cuda
