#pragma once

#include <limits>

#include "kernels/cuda/sm80_gemm_choice.h"

namespace comet::sm80 {

inline constexpr double kEvenWithin = 1.03;  // Of a makespan over its bound.

// The plan of least makespan among those within kEvenWithin of their bound, or else the one nearest
// to it: what would run if multiprocessors were to end together, whatever that takes.
inline GemmPlan BalancedPlan(const GemmShape& shape, const DeviceRates& rates,
                             const Assumptions& assumptions = {}) {
  GemmPlan best;
  double best_clocks = std::numeric_limits<double>::infinity();
  double best_ratio = best_clocks;
  for (const GemmPlan& plan : PlansOf(shape, rates, assumptions)) {
    const double clocks = MakespanOf(plan, shape, rates, assumptions);
    const double ratio = clocks / BoundOf(plan, shape, rates, assumptions);
    const bool is_even = ratio <= kEvenWithin;
    const bool is_better =
        best_ratio <= kEvenWithin ? is_even && clocks < best_clocks : ratio < best_ratio;
    if (!is_better) continue;
    best = plan;
    best_clocks = clocks;
    best_ratio = ratio;
  }
  return best;
}

}  // namespace comet::sm80
