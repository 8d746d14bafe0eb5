#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string_view>
#include <unordered_map>

#include "kernels/base/status.h"
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

// Launches kernels on one stream of one device. What the runtime must be asked once, the device's
// limits and leave to use much shared memory, is asked once and not at every launch.
// Confined to one thread.
class Launcher {
 public:
  // On the current device.
  static Result<Launcher> Create(cudaStream_t stream);

  const DeviceLimits& limits() const { return limits_; }
  cudaStream_t stream() const { return stream_; }

  // Launches `kernel` so that it may start while the grid before it ends (sm_90; the kernel begins
  // with ReleaseNextGrids() and WaitForPreviousGrids()). Errors: kUnimplemented where `shape` needs
  // more shared memory than the device has; those of the launch.
  template <typename... Params>
  Status Launch(std::string_view op, const LaunchShape& shape, void (*kernel)(Params...),
                const Params&... params) {
    COMET_RETURN_IF_ERROR(AllowSmem(op, reinterpret_cast<const void*>(kernel), shape.smem_bytes));
    cudaLaunchAttribute attributes[2] = {};
    const cudaLaunchConfig_t config = MakeConfig(shape, attributes);
    return LaunchStatus(cudaLaunchKernelEx(&config, kernel, params...), op);
  }

 private:
  Launcher(const DeviceLimits& limits, cudaStream_t stream) : limits_(limits), stream_(stream) {}

  // Lets CTAs of `kernel` have so much dynamic shared memory.
  Status AllowSmem(std::string_view op, const void* kernel, int64_t smem_bytes);
  cudaLaunchConfig_t MakeConfig(const LaunchShape& shape,
                                cudaLaunchAttribute (&attributes)[2]) const;

  DeviceLimits limits_;
  cudaStream_t stream_;
  std::unordered_map<const void*, int64_t> smem_bytes_allowed_;  // By kernel.
};

}  // namespace comet::cuda
