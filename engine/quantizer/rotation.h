#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/loader/float_source.h"
#include "engine/quantizer/residual_stream.h"
#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// Orthonormal bases, a direction a row, in which a model's activations are easier to hold in few
// bits. Folded into weights (MakeRotatedSource()), they cost nothing when the model runs.
struct ModelRotation {
  std::vector<float> residual;             // [hidden, hidden]: of the residual stream
  std::vector<std::vector<float>> values;  // One a layer, [num_kv_heads, head_dim, head_dim]
  // One a layer, [num_kv_heads, head_dim]: what values are multiplied by along each direction, and
  // o's columns divided, so that these are of one size and share steps well.
  std::vector<std::vector<float>> value_scales;
  std::vector<std::vector<float>> down_factors;  // One a layer, [ffn]: SmoothDown()'s.
};

// Chooses them from the float model's activations on some windows: first as many principal
// directions as the linears that read them hold in 8 bits at this share of INT4 channels (the value
// heads share o's), then random ones, which spread what is left evenly over the INT4 channels.
// `embedded` are the windows' embeddings. Errors: those of the source and the back end. Source:
// ResQ (arXiv:2412.14363); random rotations: QuaRot (arXiv:2404.00456).
Result<ModelRotation> ChooseRotation(Backend& backend, FloatSource& source, WindowRows embedded,
                                     double int4_share, int num_threads);

// [n, n], orthonormal rows: first the `num_principal` directions of largest variance under the
// symmetric matrix `covariance` [n, n], then random ones. Errors: those of the back end.
Result<std::vector<float>> PrincipalThenRandom(Backend& backend, std::span<const float> covariance,
                                               int n, int num_principal, uint64_t seed);

}  // namespace comet
