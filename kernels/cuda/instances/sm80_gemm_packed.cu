#include "kernels/cuda/sm80_gemm_kernel.cuh"

namespace comet::sm80 {

template GemmInstance MakeGemmInstance<0, true>();
template GemmInstance MakeGemmInstance<1, true>();
template GemmInstance MakeGemmInstance<2, true>();
template GemmInstance MakeGemmInstance<3, true>();
template GemmInstance MakeGemmInstance<4, true>();
template GemmInstance MakeGemmInstance<5, true>();
template GemmInstance MakeGemmInstance<6, true>();
template GemmInstance MakeGemmInstance<7, true>();
template GemmInstance MakeGemmInstance<8, true>();

}  // namespace comet::sm80
