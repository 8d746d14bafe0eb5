#pragma once

#include <cuda_runtime.h>

#include "kernels/base/status.h"
#include "kernels/cuda/kv_page_layout.cuh"
#include "kernels/cuda/launch.h"

namespace comet::cuda {
struct AttentionParams;
}

namespace comet::sm90 {

// Attention of a batch's chunks, the sequences with more than one token in the step, on Hopper. The
// others' rows stay as they are.
Status PrefillAttention(const cuda::AttentionParams& params, const cuda::KvPageLayout& layout,
                        cuda::Launcher& launcher);

// Attention of the other sequences' only tokens; with `units`, their partial results.
Status DecodeAttention(const cuda::AttentionParams& params, const cuda::KvPageLayout& layout,
                       cuda::Launcher& launcher);

}  // namespace comet::sm90
