#pragma once

#include <span>

#include "kernels/ops/linear_input.h"

namespace comet::reference {

// Writes one token's row, in permuted order, in the format of `out`. See
// kernels/ops/linear_input.h.
void WriteLinearInput(std::span<const float> x, int token_idx, const LinearInput& out);

}  // namespace comet::reference
