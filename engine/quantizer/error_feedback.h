#pragma once

#include <span>

#include "engine/quantizer/two_level_weights.h"

namespace comet {

// Chooses the codes of `quantized` again, its steps and scales kept: channels are rounded one after
// the other, the most active first, and each one's error is spread over the channels still to come
// so that the layer's outputs on calibration data change least.
//
// weights [N, K] and gram [K, K] (over calibration tokens, damped: positive definite) are in the
// layer's channel order. A row's result depends on that row and the gram matrix alone, so threads
// do not change it. Source: GPTQ, Frantar et al. 2022, arXiv:2210.17323.
void FeedBackErrors(std::span<const float> weights, std::span<const float> gram,
                    TwoLevelWeights& quantized, int num_threads);

}  // namespace comet
