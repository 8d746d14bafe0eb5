#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/ops/linear.h"

namespace comet::cuda {

// `linear` with INT8 weights (RowWeights): the LM head. Errors beyond the contract: kUnimplemented
// where x's codes do not begin, row by row, at multiples of 16 bytes.
Status Int8Linear(const LinearArgs& args, Launcher& launcher);

}  // namespace comet::cuda
