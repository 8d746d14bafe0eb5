#pragma once

#include <cuda_runtime_api.h>

#include "kernels/base/status.h"
#include "kernels/cuda/unit_linear.h"

namespace comet::sm80 {

// Issues the re-layout of sm80_w4ax_layout.h on the stream. Errors: those of the launch.
Status PackUnits(const cuda::PackArgs& args, cudaStream_t stream);

using W4axLinear = cuda::UnitLinearOf<PackUnits>;

}  // namespace comet::sm80
