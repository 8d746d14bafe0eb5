#include "engine/quantizer/latent_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/quantizer/linear_quantizer.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/random_linear.h"
#include "tests/engine/cpu_backend_fixture.h"

namespace comet {
namespace {

class LatentCodesTest : public CpuBackendTest<1> {
 protected:
  Random random_{5};
};

// [K, K], positive definite, with every channel tied to every other.
std::vector<float> RandomGram(Random& random, size_t size) {
  const std::vector<float> rows = NormalValues(random, 4 * size * size, 1.0f);
  std::vector<float> gram(size * size, 0.0f);
  for (size_t t = 0; t < rows.size(); t += size) {
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) gram[i * size + j] += rows[t + i] * rows[t + j];
    }
  }
  return gram;
}

// One code moved by its residual, the others as they are: a row's error is least there.
TEST_F(LatentCodesTest, ResidualsLeadToTheLeastErrorUnderTheGramMatrix) {
  constexpr size_t kChannels = 144;
  const QuantizedLinear linear = MakeRandomLinear(random_, 2, kChannels);
  const std::vector<float> rounded = DequantizeInLayerOrder(linear, 1);
  std::vector<float> weights = rounded;
  for (float& weight : weights) weight += 0.002f * random_.NextNormal();
  const std::vector<float> gram = RandomGram(random_, kChannels);

  const std::vector<int8_t> residuals = CodeResiduals(backend_, linear, weights, gram, 2).value();

  int num_checked = 0;
  for (size_t i = 0; i < weights.size(); i += 5) {
    if (std::abs(residuals[i]) > 120) continue;  // Held to half a code.
    const size_t row = i / kChannels * kChannels;
    const double step = double{linear.scale[i / kChannels]} *
                        linear.steps[i / kChannels * 2 + (i % kChannels) / 128];
    const auto error_at = [&](double moved) {
      double error = 0.0;
      for (size_t j = 0; j < kChannels; ++j) {
        for (size_t k = 0; k < kChannels; ++k) {
          const auto off = [&](size_t c) {
            return double{weights[row + c]} - double{rounded[row + c]} -
                   (row + c == i ? moved * step : 0.0);
          };
          error += off(j) * double{gram[j * kChannels + k]} * off(k);
        }
      }
      return error;
    };
    const double best = residuals[i] / 254.0;
    EXPECT_LT(error_at(best), error_at(best + 0.02)) << i;
    EXPECT_LT(error_at(best), error_at(best - 0.02)) << i;
    ++num_checked;
  }
  EXPECT_GT(num_checked, 20);
}

// Latents start within the cells of their codes, and move down the gradient.
TEST_F(LatentCodesTest, StartAtTheCodesAndFollowTheGradient) {
  const QuantizedLinear linear = MakeRandomLinear(random_, 6, 144);
  std::vector<float> weights = DequantizeInOrder({.num_outputs = 6,
                                                  .num_inputs = 144,
                                                  .codes = linear.codes,
                                                  .steps = linear.steps,
                                                  .scale = linear.scale},
                                                 false, 1);
  const std::vector<float> gradient = NormalValues(random_, weights.size(), 1.0f);
  const std::vector<float> rounded = weights;
  for (float& weight : weights) weight += 0.1f * random_.NextNormal();
  std::vector<float> gram(144 * 144, 0.0f);
  for (size_t k = 0; k < 144; ++k) gram[k * 145] = 1.0f;
  const std::vector<int8_t> residuals = CodeResiduals(backend_, linear, weights, gram, 2).value();
  const auto tuned = [&](float rate, int num_threads) {
    QuantizedLinear moved = linear;
    moved.gather.clear();
    LatentCodes latents(moved, residuals, num_threads);
    for (int step = 1; step <= 4; ++step) {
      latents.Step(gradient, {.step = step, .rate = rate, .num_threads = num_threads}, moved);
    }
    return moved;
  };

  EXPECT_EQ(tuned(0.0f, 1).codes, linear.codes);
  EXPECT_EQ(tuned(0.2f, 3).codes, tuned(0.2f, 1).codes);
  const std::vector<float> moved = DequantizeInOrder(tuned(0.2f, 1), false, 1);
  double along = 0.0;
  for (size_t i = 0; i < moved.size(); ++i) {
    along += double{moved[i] - rounded[i]} * double{gradient[i]};
    EXPECT_GE((rounded[i] - moved[i]) * gradient[i], 0.0f) << i;
  }
  EXPECT_LT(along, 0.0);
}

// Adam's first step is the rate itself whatever the gradient's length, and codes end at the ends.
TEST_F(LatentCodesTest, StepsAreOfTheRateAndStayWithinTheCodes) {
  const QuantizedLinear linear = MakeRandomLinear(random_, 2, 16);
  const auto codes_after = [&](float rate, float gradient) {
    QuantizedLinear moved = linear;
    LatentCodes latents(moved, {}, 1);
    latents.Step(std::vector<float>(32, gradient), {.step = 1, .rate = rate}, moved);
    return moved.codes;
  };

  EXPECT_EQ(codes_after(0.49f, 1e-4f), linear.codes);
  const std::vector<uint8_t> by_one = codes_after(0.51f, 1e-4f);
  EXPECT_EQ(codes_after(0.51f, 1e4f), by_one);
  const std::vector<uint8_t> far = codes_after(100.0f, 1.0f);
  for (size_t i = 0; i < 32; ++i) {
    const int direction = linear.steps[i / 16] > 0 ? -1 : 1;  // Of the code, down the gradient.
    const int before = CodeAt(linear.codes.data(), i);
    EXPECT_EQ(CodeAt(by_one.data(), i), std::clamp(before + direction, kCodeMin, kCodeMax)) << i;
    EXPECT_EQ(CodeAt(far.data(), i), direction < 0 ? kCodeMin : kCodeMax) << i;
  }
}

}  // namespace
}  // namespace comet
