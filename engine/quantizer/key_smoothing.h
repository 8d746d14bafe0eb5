#pragma once

#include <span>

#include "engine/loader/float_source.h"
#include "engine/model/model_config.h"

namespace comet {

// Divides the keys of each rotary pair by a factor and multiplies the queries of its group by it:
// attention logits stay, as a rotation of the pair commutes with the factor. The factor,
// (mean k^2 / mean q^2)^(1/4) over the calibration tokens behind `gram` (the qkv linear's, [hidden,
// hidden]), makes |q| |k| least, which the error of coarsely held keys in the logits grows with.
// Row scales of the weights absorb it. Channels beyond rotary_dim get factors of their own. A bias
// is scaled with its row; the means leave it out.
// Source: SmoothAttention of QServe (arXiv:2405.04532).
void SmoothKeys(const ModelConfig& config, std::span<const float> gram, int num_threads,
                FloatLayer& layer);

}  // namespace comet
