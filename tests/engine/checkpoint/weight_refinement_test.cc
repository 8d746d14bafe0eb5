#include "engine/quantizer/weight_refinement.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/model/decoder_layer.h"
#include "engine/quantizer/error_feedback.h"
#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/two_level_values.h"
#include "tests/engine/cpu_backend_fixture.h"

namespace comet {
namespace {

constexpr int kRows = 40;
constexpr int kChannels = 320;  // Two blocks and a short one.

// Of inputs whose channels are mixtures of fewer sources, with a little of each channel's own.
std::vector<float> CorrelatedGram(uint64_t seed) {
  constexpr size_t kSources = 80;
  const size_t n = kChannels;
  const std::vector<float> mixing = NormalValues(kSources * n, seed);
  std::vector<float> gram(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      float sum = i == j ? 0.1f : 0.0f;
      for (size_t s = 0; s < kSources; ++s) sum += mixing[s * n + i] * mixing[s * n + j] / 80.0f;
      gram[i * n + j] = sum;
    }
  }
  return gram;
}

// (w' - w) H (w' - w)^T of one row.
std::vector<double> RowErrors(const std::vector<float>& weights, const std::vector<float>& gram,
                              const TwoLevelWeights& quantized) {
  const std::vector<float> values =
      Dequantize(W4axWeights{.codes = {quantized.codes.data(), DType::kU8, {kRows, kChannels / 2}},
                             .steps = {quantized.steps.data(), DType::kI8, {kRows, 3}},
                             .scale = {quantized.scale.data(), DType::kF32, {kRows}}});
  std::vector<double> errors;
  for (size_t row = 0; row < kRows; ++row) {
    std::vector<double> difference;
    for (size_t k = 0; k < kChannels; ++k) {
      difference.push_back(double{values[row * kChannels + k]} -
                           double{weights[row * kChannels + k]});
    }
    double error = 0.0;
    for (size_t i = 0; i < kChannels; ++i) {
      for (size_t j = 0; j < kChannels; ++j) {
        error += difference[i] * double{gram[i * kChannels + j]} * difference[j];
      }
    }
    errors.push_back(error);
  }
  return errors;
}

double SumOf(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return sum;
}

class WeightRefinement : public CpuBackendTest<2> {
 protected:
  std::vector<float> weights_ = NormalValues(kRows * kChannels, 3);
  std::vector<float> gram_ = CorrelatedGram(4);
  std::vector<float> importance_ = std::vector<float>(kChannels, 1.0f);
};

TEST_F(WeightRefinement, NeverRaisesARowsError) {
  TwoLevelWeights quantized = QuantizeTwoLevel(weights_, importance_, 1);
  std::vector<double> before = RowErrors(weights_, gram_, quantized);
  const double rounded = SumOf(before);

  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(RefineWeights(backend_, weights_, gram_, {.num_rounds = 1}, quantized).ok());
    const std::vector<double> after = RowErrors(weights_, gram_, quantized);
    for (size_t row = 0; row < kRows; ++row) EXPECT_LE(after[row], before[row] * (1.0 + 1e-4));
    before = after;
  }

  EXPECT_LT(SumOf(before), 0.6 * rounded);
}

TEST_F(WeightRefinement, GoesBelowErrorFeedback) {
  TwoLevelWeights quantized = QuantizeTwoLevel(weights_, importance_, 1);
  FeedBackErrors(weights_, gram_, quantized, 1);
  const double fed_back = SumOf(RowErrors(weights_, gram_, quantized));

  ASSERT_TRUE(RefineWeights(backend_, weights_, gram_, {}, quantized).ok());

  EXPECT_LT(SumOf(RowErrors(weights_, gram_, quantized)), 0.95 * fed_back);
}

TEST_F(WeightRefinement, KeepsTheRangesThatKernelsNeed) {
  for (size_t i = 0; i < weights_.size(); i += 97) weights_[i] *= 40.0f;
  std::fill(weights_.begin(), weights_.begin() + kChannels, 0.0f);  // A silent row.
  TwoLevelWeights quantized = QuantizeTwoLevel(weights_, importance_, 1);

  ASSERT_TRUE(RefineWeights(backend_, weights_, gram_, {}, quantized).ok());

  const W4axWeights view{.codes = {quantized.codes.data(), DType::kU8, {kRows, kChannels / 2}},
                         .steps = {quantized.steps.data(), DType::kI8, {kRows, 3}},
                         .scale = {quantized.scale.data(), DType::kF32, {kRows}}};
  EXPECT_TRUE(Validate(view).ok()) << Validate(view);
  for (const float scale : quantized.scale) EXPECT_GT(scale, 0.0f);
}

TEST_F(WeightRefinement, ThreadsChangeNothing) {
  TwoLevelWeights one = QuantizeTwoLevel(weights_, importance_, 1);
  TwoLevelWeights three = one;

  ASSERT_TRUE(RefineWeights(backend_, weights_, gram_, {.num_threads = 1}, one).ok());
  ASSERT_TRUE(RefineWeights(backend_, weights_, gram_, {.num_threads = 3}, three).ok());

  EXPECT_EQ(one.codes, three.codes);
  EXPECT_EQ(one.steps, three.steps);
  EXPECT_EQ(std::memcmp(one.scale.data(), three.scale.data(), kRows * sizeof(float)), 0);
}

}  // namespace
}  // namespace comet
