#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string_view>

#include "kernels/base/status.h"
#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"

namespace comet::cuda {

struct LaunchShape {
  dim3 grid;
  int num_threads = 0;
  int64_t smem_bytes = 0;  // Dynamic shared memory of a CTA.
  int cluster_ctas = 1;    // Neighbours along x that run together (sm_90).
};

// What launchers ask of the current device.
struct DeviceLimits {
  int num_sms = 0;
  int compute_major = 0;
  int64_t smem_bytes_max = 0;  // Of one CTA, when a kernel opts in.
};

Result<DeviceLimits> QueryDeviceLimits();

// Launches `kernel` so that it may start while the grid before it ends (sm_90; the kernel begins
// with ReleaseNextGrids() and WaitForPreviousGrids()). Errors: kUnimplemented where `shape` needs
// more shared memory than the device has; those of the launch.
template <typename... Params>
Status Launch(std::string_view op, const DeviceLimits& limits, const LaunchShape& shape,
              cudaStream_t stream, void (*kernel)(Params...), const Params&... params) {
  // 48 KB with what is static, for which 2 KB are kept: more than any kernel here has.
  constexpr int64_t kSmemBytesWithoutOptIn = 46 << 10;
  if (shape.smem_bytes > limits.smem_bytes_max) {
    return Unimplemented(StrCat(op, ": a CTA needs ", shape.smem_bytes,
                                " bytes of shared memory, expected at most ",
                                limits.smem_bytes_max));
  }
  if (shape.smem_bytes > kSmemBytesWithoutOptIn) {
    COMET_RETURN_IF_ERROR(StatusOf(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                        cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                        static_cast<int>(shape.smem_bytes)),
                                   op));
  }
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(shape.cluster_ctas);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = dim3(static_cast<unsigned>(shape.num_threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.smem_bytes);
  config.stream = stream;
  config.attrs = attributes;
  // Only sm_90a code holds the wait; later cards run what was compiled for sm_80, without it.
  const bool may_overlap = limits.compute_major == 9;
  config.numAttrs = !may_overlap ? 0 : shape.cluster_ctas > 1 ? 2 : 1;
  return StatusOf(cudaLaunchKernelEx(&config, kernel, params...), StrCat("the launch of ", op));
}

}  // namespace comet::cuda
