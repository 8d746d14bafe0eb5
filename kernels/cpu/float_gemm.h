#pragma once

#include "kernels/cpu/kernel_table.h"

namespace comet::cpu {

// The float product of kernels/ops/linear.h: sixteen partial sums along K, then a tree. A register
// tile of kFloatTileOutputs x kFloatTileTokens pairs shares its loads; a pair's operations and
// their order are the same in every tile, so a row does not depend on num_tokens.
template <typename Simd>
class FloatGemm {
 public:
  static void Tile(const FloatTile& tile) {
    int t = 0;
    for (; t + kTokens <= tile.num_tokens; t += kTokens) Columns<kTokens>(tile, t);
    for (; t < tile.num_tokens; ++t) Columns<1>(tile, t);
  }

 private:
  using F = typename Simd::F;
  static constexpr int kOutputs = Simd::kFloatTileOutputs;
  static constexpr int kTokens = Simd::kFloatTileTokens;

  template <int kNumTokens>
  static void Columns(const FloatTile& tile, int first_token) {
    const int64_t stride = tile.num_channels;
    for (int n = 0; n < kTileOutputs; n += kOutputs) {
      Pairs<kNumTokens>(tile.weights + n * stride, tile.x + first_token * stride, tile.num_channels,
                        tile.out + first_token * kTileOutputs + n);
    }
  }

  template <int kNumTokens>
  static void Pairs(const float* weights, const float* x, int num_channels, float* out) {
    const int64_t stride = num_channels;
    F acc[kNumTokens][kOutputs];
    for (int t = 0; t < kNumTokens; ++t) {
      for (int n = 0; n < kOutputs; ++n) acc[t][n] = Simd::Set(0.0f);
    }
    for (int k = 0; k < num_channels; k += kLanes) {
      F w[kOutputs];
      for (int n = 0; n < kOutputs; ++n) w[n] = Simd::Load(weights + n * stride + k);
      for (int t = 0; t < kNumTokens; ++t) {
        const F x_lanes = Simd::Load(x + t * stride + k);
        for (int n = 0; n < kOutputs; ++n) acc[t][n] = Simd::Fma(x_lanes, w[n], acc[t][n]);
      }
    }
    for (int t = 0; t < kNumTokens; ++t) Simd::StoreSums(acc[t], out + t * kTileOutputs);
  }
};

}  // namespace comet::cpu
