#include "kernels/cuda/sm90_gemm_kernel.cuh"

namespace comet::sm90 {

template GemmInstance MakeGemmInstance<4>();
template GemmInstance MakeGemmInstance<5>();
template GemmInstance MakeGemmInstance<6>();
template GemmInstance MakeGemmInstance<7>();

}  // namespace comet::sm90
