#pragma once

#include "engine/quantizer/host_rows.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"
#include "kernels/ops/linear.h"

namespace comet {

// The linear op on rows that the back end holds, floats or integers, its result in host memory.
// Errors: those of the back end.

// y [num_rows, N] becomes x W^T.
Status LinearToHost(Backend& backend, const LinearInput& x, const PackedLinear& weights,
                    HostRows& y);

// Adds x W^T to y, of the same shape or, for 0, empty.
Status AddLinearToHost(Backend& backend, const LinearInput& x, const PackedLinear& weights,
                       HostRows& y);

}  // namespace comet
