#include "kernels/cuda/make_cuda_backend.h"

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_ops.h"

namespace comet {

Result<Backend> MakeCudaBackend() {
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<CudaDevice> device, CudaDevice::Create(/*device_idx=*/0));
  auto ops = std::make_unique<CudaOps>(*device);
  return Backend{.device = std::move(device), .ops = std::move(ops)};
}

}  // namespace comet
