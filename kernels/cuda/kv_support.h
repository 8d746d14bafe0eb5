#pragma once

#include <cstdint>

#include "kernels/base/status.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet::cuda {

// Whether the kernels of rope_append and attention know this cache: head_dim 64 or 128; K and V
// of 4 or 8 bits, K's at least V's. Errors: kUnimplemented naming op, field, got and expected.
Status CheckKvKernels(const char* op, const KvCacheView& cache);

// Per KV head: K codes | V codes | K (s, m) | V (s, m), contiguous (see kv_page_layout.cuh);
// formats without codes have no (s, m).
int64_t KvPageBytes(const KvFormat& format, int num_kv_heads, int head_dim);

}  // namespace comet::cuda
