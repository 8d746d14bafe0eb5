#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/sm80_gemm_params.h"

// The product for Ampere as it can be timed on Hopper, whose tensor cores have no INT4: the same
// kernel with mma.m16n8k32.s8 on the registers of m16n8k64.s4, and that kernel without one of its
// parts. Times only: the stand-in multiplies something else.
namespace comet::sm80 {

struct Variant {
  std::string_view name;
  std::vector<GemmInstance> instances;  // Of each config; launch is null where there is none.
};

std::vector<Variant> MakeVariants();

// INT8 multiply-adds a second, counted as two, of mma.m16n8k32 with nothing else to do.
Result<double> MeasureInt8Rate(CudaDevice& device);

}  // namespace comet::sm80
