#include "engine/quantizer/latent_codes.h"

#include <algorithm>
#include <cmath>

#include "engine/quantizer/float_product.h"
#include "engine/quantizer/linear_quantizer.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/math.h"
#include "kernels/base/wide_vectors.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

constexpr float kResidualSteps = 254.0f;
constexpr float kMomentum = 0.9f;
constexpr float kSquareMomentum = 0.95f;  // Short, as the steps are few.
constexpr float kTiny = 1e-20f;
constexpr float kCodeMin = -8.0f;
constexpr float kCodeMax = 7.0f;

int CodeOf(uint8_t nibble) { return nibble >= 8 ? nibble - 16 : nibble; }

// The codes of one row, [K].
void UnpackRow(const uint8_t* packed, size_t width, float* codes) {
  for (size_t k = 0; k < width; k += 2) {
    codes[k] = static_cast<float>(CodeOf(packed[k / 2] & 0xf));
    codes[k + 1] = static_cast<float>(CodeOf(packed[k / 2] >> 4));
  }
}

// What an element of the block weighs for each code: S * gamma.
float StepOf(const QuantizedLinear& linear, size_t row, size_t block) {
  const size_t num_blocks = linear.steps.size() / linear.scale.size();
  return linear.scale[row] * static_cast<float>(linear.steps[row * num_blocks + block]);
}

// Adam (Kingma and Ba, arXiv:1412.6980), both means corrected for their start at 0.
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
    latents[k] = std::min(std::max(kCodeMin, moved), kCodeMax);
  }
}

COMET_WIDE_VECTORS void PackRow(const float* __restrict latents, size_t width,
                                uint8_t* __restrict packed) {
  for (size_t i = 0; i < width / 2; ++i) {
    const int low = static_cast<int>(std::nearbyint(latents[2 * i]));
    const int high = static_cast<int>(std::nearbyint(latents[2 * i + 1]));
    packed[i] = static_cast<uint8_t>((low & 0xf) | (high & 0xf) << 4);
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
      UnpackRow(linear.codes.data() + n * width / 2, width, row);
      std::fill_n(mean_.data() + n * width, width, 0.0f);
      std::fill_n(square_.data() + n * width, width, 0.0f);
      if (residuals.empty()) continue;
      for (size_t k = 0; k < width; ++k) {
        const float moved = row[k] + kUnit * static_cast<float>(residuals[n * width + k]);
        row[k] = std::clamp(moved, kCodeMin, kCodeMax);
      }
    }
  });
}

void LatentCodes::Step(std::span<const float> gradient, const LatentStep& step,
                       QuantizedLinear& linear) {
  const size_t width = static_cast<size_t>(linear.num_inputs);
  const float count = static_cast<float>(step.step);
  const AdamStep adam{.rate = step.rate,
                      .mean_correction = 1.0f / (1.0f - std::pow(kMomentum, count)),
                      .square_correction = 1.0f / (1.0f - std::pow(kSquareMomentum, count))};
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
