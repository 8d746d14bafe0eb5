#pragma once

#include <span>

#include "kernels/ops/kv_cache_view.h"

namespace comet::cuda {

// One token's head of `cache`, a copy in host memory of what rope_append wrote, as readers take it:
// (s * q) + m. x has head_dim values.
void ReadKvRow(const KvCacheView& cache, int page_id, int kv_head_idx, int token_idx, bool is_key,
               std::span<float> x);

}  // namespace comet::cuda
