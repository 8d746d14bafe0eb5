#pragma once

#include <span>
#include <vector>

#include "engine/quantizer/activation_statistics.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct WeightTargetOptions {
  float damping = 0.1f;    // Of the gram matrix, as for rounding.
  float gap_share = 0.5f;  // Of what earlier linears have put the residual stream off by.
  int num_threads = 1;
};

// The weights [N, K] that a linear layer's rounding is to meet: those which, on the inputs x that
// the quantised layers before it give, come nearest to what the float model computes from its own
// x',
//   min over V of  sum w |V x - W x' - gap_share (h' - h)|^2 + damping |V - W|^2:
//   V = W + (W drift + gap_share gap) H^-1,  H the damped gram matrix,
// the change shrunk by T / (T + K): of T tokens few beside K channels, much of it is chance. Where
// nothing has drifted, W itself. Errors: those of the back end.
// Source: GPTQv2 (arXiv:2504.02692), its asymmetric calibration solved in one step; the residual
// stream's gap as in QEP's propagated error (arXiv:2504.09629).
Result<std::vector<float>> WeightTarget(Backend& backend, std::span<const float> weights,
                                        const ActivationStatistics& statistics,
                                        const WeightTargetOptions& options);

}  // namespace comet
