#pragma once

#include <optional>
#include <span>
#include <vector>

#include "kernels/cuda/bench/cublaslt.h"
#include "kernels/cuda/bench/replay.h"
#include "kernels/cuda/bench/sm_clock.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/op_bench.h"

namespace comet::cuda {

// What every measurement shares. Borrowed by the benches below.
struct BenchContext {
  CudaDevice& device;
  CudaOps& ops;
  const OpBenchOptions& options;
  const CublasLt* cublaslt = nullptr;  // Null: no baselines.
  const SmClock* clock = nullptr;      // Null: unknown.
  void* workspace = nullptr;           // Of cuBLASLt.
};

// Replays what is in `replays` in turn, options.num_repeats times after one round that warms up,
// and returns each one's times of a launch.
Result<std::vector<std::vector<double>>> MeasureInTurn(const BenchContext& context,
                                                       const std::vector<Replay>& replays);
// The SM clock while `replay` runs again and again for some milliseconds; 0 where unknown.
Result<double> ClockDuring(const BenchContext& context, const Replay& replay, double us_per_launch);

// OpBench::MeasureProduct().
Result<std::vector<OpMeasurement>> MeasureProduct(const BenchContext& context, WeightKind kind,
                                                  int num_outputs, int num_inputs,
                                                  std::span<const int> num_tokens,
                                                  const OpBench::Progress& progress);

// OpBench::MeasureRowOp().
Result<std::vector<OpMeasurement>> MeasureRowOp(const BenchContext& context, const RowOpCase& c,
                                                std::span<const int> num_tokens);

// OpBench::MeasureAttention(), OpBench::MeasureRopeAppend().
Result<OpMeasurement> MeasureAttention(const BenchContext& context, const AttentionCase& c);
Result<OpMeasurement> MeasureRopeAppend(const BenchContext& context, const AttentionCase& c);

}  // namespace comet::cuda
