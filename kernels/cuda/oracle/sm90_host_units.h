#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops/linear.h"

namespace comet::sm90 {

// The units of sm90_w4ax_layout.h made on the host: what tests hold the device's re-layout to.
// `weights` are valid.
std::vector<uint8_t> PackUnitsOnHost(const W4axWeights& weights);

}  // namespace comet::sm90
