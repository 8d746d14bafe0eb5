#pragma once

#include "kernels/base/status.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_weights.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gather.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/silu_mul.h"

// The ops that treat each token's row by itself: a CTA a row. Contracts in kernels/ops/; beyond
// them, kUnimplemented where a row does not fit a CTA's shared memory (4 bytes a channel, 8 where
// channels are gathered). Launchers only: they neither wait nor allocate.
namespace comet::cuda {

Status RmsNorm(const RmsNormArgs& args, Launcher& launcher);
Status Gather(const GatherArgs& args, Launcher& launcher);
Status SiluMul(const SiluMulArgs& args, Launcher& launcher);
// The table is this back end's own.
Status Embedding(const EmbeddingArgs& args, Launcher& launcher);

}  // namespace comet::cuda
