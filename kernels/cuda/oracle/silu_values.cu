// Mapping  A thread a gate.
// Traffic  Beside the point: all 2^16 gates are tried once.

#include "kernels/cuda/oracle/silu_values.h"

#include <cuda_fp16.h>

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/device/silu.cuh"

namespace comet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNumGates = 1 << 16;

__global__ void CompareGatesKernel(SiluGates* gates) {
  const unsigned bits = blockIdx.x * kThreads + threadIdx.x;
  const float gate = __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
  if (!(fabsf(gate) <= kSmallGateMax)) return;
  atomicAdd(&gates->num_compared, 1);
  const float expected = SiluMulOf(gate, 1.0f);
  const float actual = SiluMulOfSmallF16(gate, 1.0f);
  const bool are_zeros = expected == 0.0f && actual == 0.0f;
  if (!are_zeros && __float_as_uint(expected) != __float_as_uint(actual)) {
    atomicAdd(&gates->num_different, 1);
  }
}

}  // namespace

Result<SiluGates> CompareSiluGates(CudaDevice& device) {
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  COMET_ASSIGN_OR_RETURN(const DeviceBuffer count, device.Allocate(sizeof(SiluGates)));
  COMET_RETURN_IF_ERROR(device.FillZero(count.data(), sizeof(SiluGates)));
  CompareGatesKernel<<<kNumGates / kThreads, kThreads, 0,
                       static_cast<cudaStream_t>(device.stream().handle())>>>(
      static_cast<SiluGates*>(count.data()));
  COMET_RETURN_IF_ERROR(LaunchStatus("silu_values"));
  SiluGates gates;
  COMET_RETURN_IF_ERROR(device.CopyToHost(&gates, count.data(), sizeof(gates)));
  return gates;
}

}  // namespace comet::cuda
