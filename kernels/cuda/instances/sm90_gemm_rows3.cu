#include "kernels/cuda/sm90_gemm_kernel.cuh"

namespace comet::sm90 {

template GemmInstance MakeGemmInstance<17>();
template GemmInstance MakeGemmInstance<18>();
template GemmInstance MakeGemmInstance<19>();
template GemmInstance MakeGemmInstance<20>();

}  // namespace comet::sm90
