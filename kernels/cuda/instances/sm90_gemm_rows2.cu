#include "kernels/cuda/sm90_gemm_kernel.cuh"

namespace comet::sm90 {

template GemmInstance MakeGemmInstance<12>();
template GemmInstance MakeGemmInstance<13>();
template GemmInstance MakeGemmInstance<14>();
template GemmInstance MakeGemmInstance<16>();

}  // namespace comet::sm90
