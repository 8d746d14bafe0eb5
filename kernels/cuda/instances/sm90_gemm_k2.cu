#include "kernels/cuda/sm90_gemm_kernel.cuh"

namespace comet::sm90 {

template GemmInstance MakeGemmInstance<5>();
template GemmInstance MakeGemmInstance<6>();
template GemmInstance MakeGemmInstance<7>();
template GemmInstance MakeGemmInstance<8>();

}  // namespace comet::sm90
