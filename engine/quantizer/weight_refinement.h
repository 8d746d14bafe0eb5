#pragma once

#include <span>
#include <vector>

#include "engine/quantizer/two_level_weights.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

struct RefinementOptions {
  int num_rounds = 3;  // Of steps, then codes.
  int num_sweeps = 4;  // Over the codes, in one round; fewer when one changes none.
  int num_threads = 1;
};

// Lowers each row's error (w' - w) H (w' - w)^T, w' the quantised row and H the gram matrix
// [K, K], positive definite, by turns:
//   1. steps: the real steps of least error for these codes (a system of one unknown a block), then
//      the scale and integer steps nearest to them in that error, kept if they lower it;
//   2. codes: one after the other takes the value of least error, all others held.
// Neither can raise the error but by rounding of fp32 sums. weights [N, K]. A row's result depends
// on that row and H alone. Errors: those of the back end.
// Source: coordinate descent as in CDQuant (arXiv:2406.17542) and QuantEase (arXiv:2309.01885).
Status RefineWeights(Backend& backend, std::span<const float> weights, std::span<const float> gram,
                     const RefinementOptions& options, TwoLevelWeights& quantized);

}  // namespace comet
