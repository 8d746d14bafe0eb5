#include "kernels/cuda/sm90_gemm_kernel.cuh"

namespace comet::sm90 {

template GemmInstance MakeGemmInstance<8>();
template GemmInstance MakeGemmInstance<9>();
template GemmInstance MakeGemmInstance<10>();
template GemmInstance MakeGemmInstance<11>();

}  // namespace comet::sm90
