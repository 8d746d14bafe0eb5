#include "engine/quantizer/latent_codes.h"

#include <algorithm>
#include <cmath>

#include "engine/quantizer/adam.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/math.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/wide_vectors.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

constexpr float kResidualSteps = 254.0f;
constexpr float kTiny = 1e-20f;
constexpr float kLatentMin = kCodeMin;
constexpr float kLatentMax = kCodeMax;

// What an element of the block weighs for each code: S * gamma.
float StepOf(const QuantizedLinear& linear, size_t row, size_t block) {
  const size_t num_blocks = linear.steps.size() / linear.scale.size();
  return linear.scale[row] * static_cast<float>(linear.steps[row * num_blocks + block]);
}

// Both means corrected for their start at 0.
struct AdamStep {
  float rate;
  float mean_correction;
  float square_correction;
};

COMET_WIDE_VECTORS void MoveLatents(const AdamStep& adam, float step_size,
                                    const float* __restrict gradient, size_t count,
                                    float* __restrict mean, float* __restrict square,
                                    float* __restrict latents) {
  const auto [rate, mean_correction, square_correction] = adam;
  for (size_t k = 0; k < count; ++k) {
    const float d = gradient[k] * step_size;
    mean[k] = kMomentum * mean[k] + (1.0f - kMomentum) * d;
    square[k] = kSquareMomentum * square[k] + (1.0f - kSquareMomentum) * d * d;
    const float length = std::sqrt(square[k] * square_correction) + kTiny;
    const float moved = latents[k] - rate * (mean[k] * mean_correction) / length;
    latents[k] = std::min(std::max(kLatentMin, moved), kLatentMax);
  }
}

COMET_WIDE_VECTORS void PackRow(const float* __restrict latents, size_t width,
                                uint8_t* __restrict packed) {
  for (size_t i = 0; i < width / 2; ++i) {
    const int low = static_cast<int>(std::nearbyint(latents[2 * i]));
    const int high = static_cast<int>(std::nearbyint(latents[2 * i + 1]));
    packed[i] = PackCodes(low, high);
  }
}

}  // namespace

Result<std::vector<int8_t>> CodeResiduals(Backend& backend, const QuantizedLinear& linear,
                                          std::span<const float> weights,
                                          std::span<const float> gram, int num_threads) {
  const size_t width = static_cast<size_t>(linear.num_inputs);
  HostRows error(weights.size());
  const std::vector<float> rounded = DequantizeInLayerOrder(linear, num_threads);
  ParallelRows(num_threads, linear.num_outputs, [&](int first, int last) {
    for (size_t i = static_cast<size_t>(first) * width; i < static_cast<size_t>(last) * width;
         ++i) {
      error[i] = weights[i] - rounded[i];
    }
  });
  COMET_ASSIGN_OR_RETURN(const HostRows slope,
                         MultiplyByTransposed(backend, error, gram, linear.num_inputs));
  std::vector<int8_t> residuals(weights.size());
  ParallelRows(num_threads, linear.num_outputs, [&](int first, int last) {
    for (size_t n = static_cast<size_t>(first); n < static_cast<size_t>(last); ++n) {
      for (size_t k = 0; k < width; ++k) {
        const float step = StepOf(linear, n, k / kBlockChannels);
        if (step == 0.0f) continue;
        const float best = slope[n * width + k] / (gram[k * width + k] * step);
        residuals[n * width + k] =
            static_cast<int8_t>(std::nearbyint(kResidualSteps * std::clamp(best, -0.5f, 0.5f)));
      }
    }
  });
  return residuals;
}

LatentCodes::LatentCodes(const QuantizedLinear& linear, std::span<const int8_t> residuals,
                         int num_threads)
    : latents_(linear.codes.size() * 2), mean_(latents_.size()), square_(latents_.size()) {
  const size_t width = static_cast<size_t>(linear.num_inputs);
  constexpr float kUnit = 0.998f / kResidualSteps;  // Half a code away still rounds to it.
  ParallelRows(num_threads, linear.num_outputs, [&](int first, int last) {
    for (size_t n = static_cast<size_t>(first); n < static_cast<size_t>(last); ++n) {
      float* row = latents_.data() + n * width;
      const uint8_t* packed = linear.codes.data() + n * width / 2;
      for (size_t k = 0; k < width; ++k) row[k] = static_cast<float>(CodeAt(packed, k));
      std::fill_n(mean_.data() + n * width, width, 0.0f);
      std::fill_n(square_.data() + n * width, width, 0.0f);
      if (residuals.empty()) continue;
      for (size_t k = 0; k < width; ++k) {
        const float moved = row[k] + kUnit * static_cast<float>(residuals[n * width + k]);
        row[k] = std::clamp(moved, kLatentMin, kLatentMax);
      }
    }
  });
}

void LatentCodes::Step(std::span<const float> gradient, const LatentStep& step,
                       QuantizedLinear& linear) {
  const size_t width = static_cast<size_t>(linear.num_inputs);
  const AdamStep adam{.rate = step.rate,
                      .mean_correction = 1.0f / ShareGathered(kMomentum, step.step),
                      .square_correction = 1.0f / ShareGathered(kSquareMomentum, step.step)};
  ParallelRows(step.num_threads, linear.num_outputs, [&](int first, int last) {
    for (size_t n = static_cast<size_t>(first); n < static_cast<size_t>(last); ++n) {
      for (size_t k = 0; k < width; k += kBlockChannels) {
        const size_t i = n * width + k;
        MoveLatents(adam, StepOf(linear, n, k / kBlockChannels), gradient.data() + i,
                    std::min<size_t>(kBlockChannels, width - k), mean_.data() + i,
                    square_.data() + i, latents_.data() + i);
      }
      PackRow(latents_.data() + n * width, width, linear.codes.data() + n * width / 2);
    }
  });
}

}  // namespace comet
