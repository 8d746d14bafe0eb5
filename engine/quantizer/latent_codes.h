#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/loader/checkpoint_writer.h"
#include "engine/model/decoder_layer.h"
#include "engine/quantizer/host_rows.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// How far each code is from the real number that would be best in its place with all others as they
// are, under the error (w - q) gram (w - q)' of a row: in 1/254 of a code and at most half a code,
// [N, K]; 0 where a step is 0. `weights` [N, K] and `gram` [K, K] in the layer's order. Errors:
// those of the back end.
Result<std::vector<int8_t>> CodeResiduals(Backend& backend, const QuantizedLinear& linear,
                                          std::span<const float> weights,
                                          std::span<const float> gram, int num_threads);

// Of each linear of a layer.
using LayerResiduals = std::array<std::vector<int8_t>, kNumLinearKinds>;

struct LatentStep {
  int step = 1;       // From 1.
  float rate = 0.0f;  // Largest move of a latent, about, in codes.
  int num_threads = 1;
};

// The codes of one linear layer as real numbers, which an optimiser moves and which round to what
// the checkpoint holds. The gradient passes through the rounding unchanged (a straight-through
// estimate; Bengio et al., arXiv:1308.3432). Confined to one thread.
class LatentCodes {
 public:
  // Each starts its residual away from its code. Empty `residuals`: at it.
  LatentCodes(const QuantizedLinear& linear, std::span<const int8_t> residuals, int num_threads);

  // Moves along `gradient` [N, K] of the linear's weights without their scales' factors, and rounds
  // into the linear's codes.
  void Step(std::span<const float> gradient, const LatentStep& step, QuantizedLinear& linear);

 private:
  HostRows latents_;  // [N, K]
  HostRows mean_;     // [N, K]: of the gradient.
  HostRows square_;   // [N, K]: of the gradient's square.
};

}  // namespace comet
