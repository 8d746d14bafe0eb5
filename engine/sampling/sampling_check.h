#pragma once

#include "engine/request.h"
#include "kernels/base/status.h"

namespace comet {

inline constexpr int kLogitBiasesMax = 1024;  // Entries of one request's logit_bias.

// Errors: kInvalidArgument naming the first field that is out of range (a NaN is), what it is and
// what was expected.
Status Validate(const SamplingParams& sampling, int vocab_size);

}  // namespace comet
