#include "kernels/cuda/bench/cublaslt.h"

// In the place of cublaslt.cc where the toolkit has no cublasLt.h.
namespace comet::cuda {

Result<std::unique_ptr<CublasLt>> CublasLt::Open() {
  return NotFound("cublaslt: this build was made without cublasLt.h");
}

}  // namespace comet::cuda
