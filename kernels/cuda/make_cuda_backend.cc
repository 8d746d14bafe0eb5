#include "kernels/cuda/make_cuda_backend.h"

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_ops.h"

namespace comet {

Result<Backend> MakeCudaBackend() {
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<CudaDevice> device, CudaDevice::Create(/*device_idx=*/0));
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<CudaOps> ops, CudaOps::Create(*device));
  return Backend{.device = std::move(device), .ops = std::move(ops)};
}

}  // namespace comet
