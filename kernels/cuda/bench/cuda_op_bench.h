#pragma once

#include <memory>

#include "kernels/op_bench.h"

namespace comet {

// MakeOpBench() for cuda device 0.
Result<std::unique_ptr<OpBench>> MakeCudaOpBench(const OpBenchOptions& options);

}  // namespace comet
