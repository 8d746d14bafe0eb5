#include "engine/quantizer/rotation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/model.h"
#include "engine/quantizer/down_smoothing.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/rotated_source.h"
#include "engine/quantizer/weight_target.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/planted_source.h"
#include "tests/engine/cpu_backend_fixture.h"
#include "tests/engine/one_sequence.h"

namespace comet {
namespace {

constexpr int kNumTokens = 64;

class RotationTest : public CpuBackendTest<2> {
 protected:
  // Of the last token.
  std::vector<float> Logits(FloatSource& source) {
    const ModelLimits limits = LimitsOfOneSequence(kNumTokens);
    const auto model = Model::Load(backend_, source, kFloatPrecision, limits);
    EXPECT_TRUE(model.ok()) << model.status();
    const int rows[] = {kNumTokens - 1};
    const auto logits =
        ComputeLogits(backend_, **model, limits, {.ids = RandomPairIds(kNumTokens)}, rows);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return *logits;
  }

  // Rows of the embedding.
  WindowRows Embedded(FloatSource& source) {
    const std::vector<float> table = source.ReadEmbedding().value();
    const size_t count = static_cast<size_t>(kNumTokens * kPlantedChannels);
    return {{table.begin(), table.begin() + static_cast<std::ptrdiff_t>(count)}};
  }
};

TEST_F(RotationTest, LeavesTheFloatModelsOutputAsItIs) {
  for (const float bias : {0.0f, 22.0f}) {
    const auto source = MakePlantedSource({.k_bias_norm = bias, .bias_pairs = 3});
    auto rotation = ChooseRotation(backend_, *source, Embedded(*source), 0.84, 2);
    ASSERT_TRUE(rotation.ok()) << rotation.status();
    const auto rotated = MakeRotatedSource(*source, backend_, std::move(rotation).value(), 2);

    EXPECT_LT(RelativeError(Logits(*rotated), Logits(*source)), 1e-5);
    EXPECT_GT(RelativeError(rotated->ReadLayer(0)->down, source->ReadLayer(0)->down), 0.5);
  }
}

// A channel's activity and its column's square trade places; the error is as their sums' product.
TEST_F(RotationTest, SmoothingMakesTheErrorOfDownLeast) {
  const auto source = MakePlantedSource({});
  FloatLayer layer = source->ReadLayer(0).value();
  const size_t width = layer.post_attention_norm.size();
  const size_t ffn = layer.down.size() / width;
  Random random(5);
  WindowRows inputs(1);
  const WindowRows hidden(1, HostRows(kNumTokens * width, 1.0f));
  std::vector<float> sizes;
  for (size_t k = 0; k < ffn; ++k) sizes.push_back(std::exp(random.NextNormal()));
  for (size_t i = 0; i < kNumTokens * ffn; ++i) {
    inputs[0].push_back(sizes[i % ffn] * random.NextNormal());
  }
  std::vector<double> activity(ffn);
  for (size_t i = 0; i < inputs[0].size(); ++i)
    activity[i % ffn] += double{inputs[0][i]} * inputs[0][i];
  const auto column_square = [&](size_t k) {
    double sum = 0.0;
    for (size_t n = 0; n < width; ++n) {
      sum += double{layer.down[n * ffn + k]} * double{layer.down[n * ffn + k]};
    }
    return sum;
  };
  const auto sums_product = [&](std::span<const float> factors) {
    double of_inputs = 0.0;
    double of_columns = 0.0;
    for (size_t k = 0; k < ffn; ++k) {
      of_inputs += activity[k] / (double{factors[k]} * factors[k]);
      of_columns += column_square(k) * double{factors[k]} * factors[k];
    }
    return of_inputs * of_columns;
  };
  double least = 0.0;
  for (size_t k = 0; k < ffn; ++k) least += std::sqrt(activity[k] * column_square(k));

  const std::vector<float> factors = DownFactors(layer, inputs, hidden);

  EXPECT_NEAR(sums_product(factors) / (least * least), 1.0, 1e-4);
  EXPECT_GT(sums_product(std::vector<float>(ffn, 1.0f)), 1.5 * least * least);
}

TEST_F(RotationTest, PrincipalDirectionsComeFirstAndAllAreOrthonormal) {
  constexpr int kSize = 48;
  std::vector<float> covariance(kSize * kSize);
  for (int k = 0; k < kSize; ++k) covariance[static_cast<size_t>(k * (kSize + 1))] = 1.0f;
  covariance[5 * (kSize + 1)] = 100.0f;
  covariance[31 * (kSize + 1)] = 50.0f;

  const auto rows = PrincipalThenRandom(backend_, covariance, kSize, 2, 1);

  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_NEAR(std::abs((*rows)[5]), 1.0f, 1e-4f);
  EXPECT_NEAR(std::abs((*rows)[kSize + 31]), 1.0f, 1e-4f);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double product = 0.0;
      for (size_t k = 0; k < kSize; ++k) {
        product += double{(*rows)[i * kSize + k]} * double{(*rows)[j * kSize + k]};
      }
      EXPECT_NEAR(product, i == j ? 1.0 : 0.0, 1e-5) << i << " " << j;
    }
  }
}

// Two inputs that carry the same: what is lost on the first, the target gets from the second.
TEST_F(RotationTest, WeightTargetMakesUpForWhatInputsHaveLost) {
  constexpr int kTokens = 200;
  Random random(3);
  WindowRows inputs(1);
  WindowRows float_inputs(1);
  for (int t = 0; t < kTokens; ++t) {
    const float a = random.NextNormal();
    const float b = random.NextNormal();
    float_inputs[0].insert(float_inputs[0].end(), {a, b, a, 0.5f});
    inputs[0].insert(inputs[0].end(), {0.25f * a, b, a, 0.5f});
  }
  ActivationStatistics seen;
  ASSERT_TRUE(
      AddRows(
          backend_,
          {.num_channels = 4, .inputs = inputs, .float_inputs = float_inputs, .weighting = inputs},
          2, seen)
          .ok());
  const std::vector<float> weights = {1.0f, 2.0f, 0.0f, 0.0f, -1.0f, 0.0f, 3.0f, 1.0f};

  const auto target = WeightTarget(backend_, weights, seen, {.damping = 1e-4f});

  ASSERT_TRUE(target.ok()) << target.status();
  const auto error_of = [&](const std::vector<float>& w) {
    double error = 0.0;
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t n = 0; n < 2; ++n) {
        double difference = 0.0;
        for (size_t k = 0; k < 4; ++k) {
          difference += double{w[4 * n + k]} * double{inputs[0][4 * t + k]} -
                        double{weights[4 * n + k]} * double{float_inputs[0][4 * t + k]};
        }
        error += difference * difference;
      }
    }
    return error;
  };
  EXPECT_LT(error_of(*target), 1e-3 * error_of(weights));
  seen.drift.clear();
  EXPECT_EQ(*WeightTarget(backend_, weights, seen, {}), weights);
}

}  // namespace
}  // namespace comet
