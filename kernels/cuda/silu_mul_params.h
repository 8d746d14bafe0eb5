#pragma once

#include <cstdint>

#include "kernels/base/status.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_launch.h"

namespace comet::cuda {

struct SiluMulParams {
  RowOutputParams out;
  const void* gate_up;
  int64_t gate_up_row_stride;
  int num_hadamard;  // Channels, from the first, in blocks of 128.
  float hadamard_factor;
};

namespace sm90 {

// Whether so few rows of this width are faster with a cluster of CTAs a row.
bool TakesCluster(int num_rows, int num_channels);
// silu_mul of aligned rows (kVectors) for which TakesCluster(); `dtype` is gate_up's.
Status ClusterSiluMul(const SiluMulParams& params, int num_rows, DType dtype, Launcher& launcher);

}  // namespace sm90
}  // namespace comet::cuda
