#include "engine/evaluation/log_likelihood.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/base/row_functions.h"

namespace comet {
namespace {

// Summed in fp32: few enough that the many small terms are not lost beside a large one.
constexpr size_t kTermsInFloat = 512;

}  // namespace

double LogLikelihood(std::span<const float> logits, int target) {
  const float highest = MaxOf(logits);
  double sum = 0.0;
  for (size_t first = 0; first < logits.size(); first += kTermsInFloat) {
    const size_t count = std::min(kTermsInFloat, logits.size() - first);
    sum += static_cast<double>(SumOfExp(highest, logits.subspan(first, count)));
  }
  return static_cast<double>(logits[static_cast<size_t>(target)]) - static_cast<double>(highest) -
         std::log(sum);
}

}  // namespace comet
