#include "kernels/cuda/make_cuda_backend.h"

// In the place of make_cuda_backend.cc where there is no nvcc.
namespace comet {

Result<Backend> MakeCudaBackend() {
  return Unimplemented("backend: device is 'cuda', but this build has no CUDA");
}

}  // namespace comet
