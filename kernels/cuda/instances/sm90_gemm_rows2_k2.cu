#include "kernels/cuda/sm90_gemm_kernel.cuh"

namespace comet::sm90 {

template GemmInstance MakeGemmInstance<9>();
template GemmInstance MakeGemmInstance<10>();
template GemmInstance MakeGemmInstance<11>();
template GemmInstance MakeGemmInstance<12>();
template GemmInstance MakeGemmInstance<23>();

}  // namespace comet::sm90
