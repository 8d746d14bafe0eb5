#include "kernels/cuda/sm90_gemm_kernel.cuh"

namespace comet::sm90 {

template GemmInstance MakeGemmInstance<0>();
template GemmInstance MakeGemmInstance<1>();
template GemmInstance MakeGemmInstance<2>();
template GemmInstance MakeGemmInstance<3>();

}  // namespace comet::sm90
