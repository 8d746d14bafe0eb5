#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet {

// The two-level form of some rows (see W4axWeights): w[n, k] ~ S[n] * gamma[n, block(k)] * v[n, k].
struct TwoLevelWeights {
  std::vector<uint8_t> codes;  // [N, K / 2], even channel in bits 0-3
  std::vector<int8_t> steps;   // [N, CeilDiv(K, 128)]
  std::vector<float> scale;    // [N]
};

// Finds S, gamma and v of each row of `weights` [N, K] (channels in the layer's order) with the
// least error sum_k importance[k] * (w - S gamma v)^2 that its search meets:
//   1. each block's best real step, over both signs and a grid of clipping factors;
//   2. S over a grid below the largest step / 16, with each block's best integer step near its real
//   one;
//   3. S by least squares for these codes, and the codes again, while the error falls.
// A row's result depends on that row alone, so threads do not change it.
TwoLevelWeights QuantizeTwoLevel(std::span<const float> weights, std::span<const float> importance,
                                 int num_threads);

}  // namespace comet
