#include "kernels/cuda/launch.h"

#include "kernels/base/str_cat.h"

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

Result<Launcher> Launcher::Create(cudaStream_t stream) {
  COMET_ASSIGN_OR_RETURN(const DeviceLimits limits, QueryDeviceLimits());
  return Launcher(limits, stream);
}

Status Launcher::AllowSmem(std::string_view op, const void* kernel, int64_t smem_bytes) {
  // 48 KB with what is static, for which 2 KB are kept: more than any kernel here has.
  constexpr int64_t kSmemBytesWithoutOptIn = 46 << 10;
  if (smem_bytes <= kSmemBytesWithoutOptIn) return Status::Ok();
  // An entry a kernel, made at its first launch. What the runtime holds belongs to the device, not
  // to this launcher: each sets the same, all there is, so that none takes leave from another.
  int64_t& allowed = smem_bytes_allowed_[kernel];
  if (allowed == 0) {
    cudaFuncAttributes attributes{};
    COMET_RETURN_IF_ERROR(StatusOf(cudaFuncGetAttributes(&attributes, kernel), op));
    const int64_t bytes_max =
        limits_.smem_bytes_max - static_cast<int64_t>(attributes.sharedSizeBytes);
    COMET_RETURN_IF_ERROR(
        StatusOf(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(bytes_max)),
                 op));
    allowed = bytes_max;
  }
  if (smem_bytes <= allowed) return Status::Ok();
  return Unimplemented(StrCat(op, ": a CTA needs ", smem_bytes,
                              " bytes of shared memory, expected at most ", allowed));
}

cudaLaunchConfig_t Launcher::MakeConfig(const LaunchShape& shape,
                                        cudaLaunchAttribute (&attributes)[2]) const {
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
  config.stream = stream_;
  config.attrs = attributes;
  // Only sm_90a code holds the wait; later cards run what was compiled for sm_80, without it.
  const bool may_overlap = limits_.compute_major == 9;
  config.numAttrs = !may_overlap ? 0 : shape.cluster_ctas > 1 ? 2 : 1;
  return config;
}

}  // namespace comet::cuda
