#pragma once

#include <memory>

#include "engine/loader/float_source.h"
#include "engine/quantizer/rotation.h"
#include "kernels/make_backend.h"

namespace comet {

// The same function as `source`, in fp32 up to rounding, with its residual stream and the values of
// its attention in other bases: norm weights go into the linears behind them (and the final norm's
// into the LM head, so that a tied embedding comes apart), rotations into both sides' weights.
// `source` and `backend` outlive it; products go through the back end.
std::unique_ptr<FloatSource> MakeRotatedSource(FloatSource& source, Backend& backend,
                                               ModelRotation rotation, int num_threads);

}  // namespace comet
