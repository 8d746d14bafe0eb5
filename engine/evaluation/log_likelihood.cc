#include "engine/evaluation/log_likelihood.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace comet {

double LogLikelihood(std::span<const float> logits, int target) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - highest));
  return static_cast<double>(logits[static_cast<size_t>(target)]) - static_cast<double>(highest) -
         std::log(sum);
}

}  // namespace comet
