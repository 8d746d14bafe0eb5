#pragma once

#include <span>

namespace comet {

// Natural log of the probability that softmax(logits) gives `target`. Not finite when a logit is
// NaN or +infinity.
double LogLikelihood(std::span<const float> logits, int target);

}  // namespace comet
