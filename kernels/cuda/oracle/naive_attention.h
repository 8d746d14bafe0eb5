#pragma once

#include "kernels/cuda/cuda_device.h"
#include "kernels/ops/attention.h"

namespace comet::cuda {

// kernels/ops/attention.h for f16 rows and caches of codes, in double: one thread a logit, then one
// thread an output. What the tests hold shapes too large for the scalar reference to; not part of
// comet. Allocates num_tokens * num_heads * context_length_max floats.
Status NaiveAttention(CudaDevice& device, const AttentionArgs& args);

}  // namespace comet::cuda
