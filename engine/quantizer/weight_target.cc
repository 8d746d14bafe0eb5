#include "engine/quantizer/weight_target.h"

#include "engine/quantizer/float_product.h"
#include "engine/quantizer/transposed.h"
#include "engine/quantizer/triangular.h"

namespace comet {

Result<std::vector<float>> WeightTarget(Backend& backend, std::span<const float> weights,
                                        const ActivationStatistics& statistics,
                                        const WeightTargetOptions& options) {
  std::vector<float> target(weights.begin(), weights.end());
  if (statistics.drift.empty()) return target;
  const int num_channels = statistics.num_channels;
  const size_t n = static_cast<size_t>(num_channels);
  COMET_ASSIGN_OR_RETURN(
      HostRows wanted,
      MultiplyByTransposed(backend, weights,
                           Transposed(statistics.drift, num_channels, options.num_threads),
                           num_channels));
  for (size_t i = 0; i < statistics.gap.size(); ++i) {
    wanted[i] += options.gap_share * statistics.gap[i];
  }
  const float factor = statistics.GramFactor();
  for (float& value : wanted) value *= factor;

  // H = L L', so wanted H^-1 = (wanted M') M with M = L^-1.
  std::vector<float> lower = statistics.DampedGram(options.damping);
  FactorLower(lower, n, options.num_threads);
  const std::vector<float> inverse = InvertLower(lower, n, options.num_threads);
  COMET_ASSIGN_OR_RETURN(const HostRows half,
                         MultiplyByTransposed(backend, wanted, inverse, num_channels));
  COMET_ASSIGN_OR_RETURN(
      const HostRows change,
      MultiplyByTransposed(backend, half, Transposed(inverse, num_channels, options.num_threads),
                           num_channels));
  const double tokens = static_cast<double>(statistics.num_tokens);
  const float trust = static_cast<float>(tokens / (tokens + num_channels));
  for (size_t i = 0; i < target.size(); ++i) target[i] += trust * change[i];
  return target;
}

}  // namespace comet
