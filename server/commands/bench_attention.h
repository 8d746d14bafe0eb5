#pragma once

#include "kernels/op_bench.h"
#include "server/commands/bench_ops.h"

namespace comet {

// The sizes that `shape`, `heads`, `kv_bits` and `window` ask for. Errors: kInvalidArgument.
Result<std::vector<AttentionCase>> ParseAttentionCases(const BenchOpsOptions& options);

// `comet bench ops --op attention` and rope_append: a table, or JSON, of every size.
Status RunBenchAttention(const BenchOpsOptions& options, const OpBenchOptions& bench_options);

}  // namespace comet
