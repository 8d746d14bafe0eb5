#include "kernels/cuda/sm80_gemm_kernel.cuh"

namespace comet::sm80 {

template GemmInstance MakeGemmInstance<0, false>();
template GemmInstance MakeGemmInstance<1, false>();
template GemmInstance MakeGemmInstance<2, false>();
template GemmInstance MakeGemmInstance<3, false>();
template GemmInstance MakeGemmInstance<4, false>();
template GemmInstance MakeGemmInstance<5, false>();
template GemmInstance MakeGemmInstance<6, false>();
template GemmInstance MakeGemmInstance<7, false>();
template GemmInstance MakeGemmInstance<8, false>();

}  // namespace comet::sm80
