#include "kernels/cuda/bench/cuda_op_bench.h"

// In the place of cuda_op_bench.cc where there is no nvcc.
namespace comet {

Result<std::unique_ptr<OpBench>> MakeCudaOpBench(const OpBenchOptions&) {
  return Unimplemented("op_bench: this build has no CUDA");
}

}  // namespace comet
