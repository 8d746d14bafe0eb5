#include "engine/quantizer/error_feedback.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/model/decoder_layer.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/triangular.h"
#include "engine/quantizer/two_level_weights.h"
#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/two_level_values.h"

namespace comet {
namespace {

// Inputs whose channels are mixtures of a few sources, [num_tokens, K], and
// their gram matrix.
struct CorrelatedInputs {
  std::vector<float> rows;
  std::vector<float> gram;
};

CorrelatedInputs MakeCorrelatedInputs(int num_tokens, int num_channels, uint64_t seed) {
  const int num_sources = num_channels / 4;
  const std::vector<float> mixing =
      NormalValues(static_cast<size_t>(num_sources * num_channels), seed);
  const std::vector<float> sources =
      NormalValues(static_cast<size_t>(num_tokens * num_sources), seed + 1);
  const std::vector<float> noise =
      NormalValues(static_cast<size_t>(num_tokens * num_channels), seed + 2);
  CorrelatedInputs inputs;
  inputs.gram.assign(static_cast<size_t>(num_channels) * static_cast<size_t>(num_channels), 0.0f);
  const size_t width = static_cast<size_t>(num_channels);
  const size_t depth = static_cast<size_t>(num_sources);
  for (size_t t = 0; t < static_cast<size_t>(num_tokens); ++t) {
    for (size_t k = 0; k < width; ++k) {
      float value = 0.5f * noise[t * width + k];
      for (size_t s = 0; s < depth; ++s) {
        value += sources[t * depth + s] * mixing[s * width + k] / std::sqrt(32.0f);
      }
      inputs.rows.push_back(value);
    }
    const float* row = inputs.rows.data() + t * width;
    for (size_t i = 0; i < width; ++i) {
      for (size_t j = 0; j < width; ++j) inputs.gram[i * width + j] += row[i] * row[j];
    }
  }
  return inputs;
}

std::vector<float> Outputs(const std::vector<float>& rows, const std::vector<float>& weights,
                           int num_channels) {
  const size_t width = static_cast<size_t>(num_channels);
  std::vector<float> outputs;
  for (size_t t = 0; t < rows.size(); t += width) {
    for (size_t n = 0; n < weights.size(); n += width) {
      outputs.push_back(std::inner_product(rows.begin() + static_cast<int64_t>(t),
                                           rows.begin() + static_cast<int64_t>(t + width),
                                           weights.begin() + static_cast<int64_t>(n), 0.0f));
    }
  }
  return outputs;
}

TEST(Triangular, FactorTimesItsTransposeIsTheMatrix) {
  constexpr int kSize = 150;  // More than two panels.
  const CorrelatedInputs inputs = MakeCorrelatedInputs(400, kSize, 6);
  std::vector<float> lower = inputs.gram;

  FactorLower(lower, kSize, 2);
  const std::vector<float> inverse = InvertLower(lower, kSize, 2);

  const auto at = [](const std::vector<float>& m, int i, int j) {
    return j > i ? 0.0 : double{m[static_cast<size_t>(i * kSize + j)]};
  };
  for (int i = 0; i < kSize; i += 7) {
    for (int j = 0; j <= i; j += 5) {
      double product = 0.0;
      double identity = 0.0;
      for (int k = 0; k <= i; ++k) {
        product += at(lower, i, k) * at(lower, j, k);
        identity += at(lower, i, k) * at(inverse, k, j);
      }
      EXPECT_NEAR(product, inputs.gram[static_cast<size_t>(i * kSize + j)], 0.05);
      EXPECT_NEAR(identity, i == j ? 1.0 : 0.0, 1e-3);
    }
  }
}

TEST(ErrorFeedback, LowersOutputErrorOnInputsItHasNotSeen) {
  constexpr int kChannels = 256;
  const std::vector<float> weights = NormalValues(48 * kChannels, 7);
  const CorrelatedInputs inputs = MakeCorrelatedInputs(2048, kChannels, 8);
  const std::vector<float> seen(inputs.rows.begin(), inputs.rows.begin() + 1024 * kChannels);
  const std::vector<float> unseen(inputs.rows.begin() + 1024 * kChannels, inputs.rows.end());
  std::vector<float> gram(kChannels * kChannels);
  for (int t = 0; t < 1024; ++t) {
    const float* row = seen.data() + t * kChannels;
    for (int i = 0; i < kChannels; ++i) {
      for (int j = 0; j < kChannels; ++j) {
        gram[static_cast<size_t>(i * kChannels + j)] += row[i] * row[j];
      }
    }
  }
  const std::vector<float> importance(kChannels, 1.0f);
  TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, 1);
  const std::vector<float> expected = Outputs(unseen, weights, kChannels);
  const double before =
      RelativeError(Outputs(unseen, ValuesOf(quantized, kChannels), kChannels), expected);

  FeedBackErrors(weights, gram, quantized, 2);

  const double after =
      RelativeError(Outputs(unseen, ValuesOf(quantized, kChannels), kChannels), expected);
  EXPECT_LT(after, 0.8 * before);
}

TEST(ErrorFeedback, IndependentChannelsAreRoundedAlone) {
  constexpr int kChannels = 192;
  const std::vector<float> weights = NormalValues(40 * kChannels, 9);
  std::vector<float> gram(kChannels * kChannels);
  for (int i = 0; i < kChannels; ++i) gram[static_cast<size_t>(i * (kChannels + 1))] = 1.0f + i;
  const std::vector<float> importance(kChannels, 1.0f);
  const TwoLevelWeights before = QuantizeTwoLevel(weights, importance, 1);
  TwoLevelWeights after = before;

  FeedBackErrors(weights, gram, after, 1);

  // The two divide and multiply by a step respectively: only a tie may round
  // differently.
  int num_different = 0;
  for (size_t i = 0; i < before.codes.size(); ++i)
    num_different += before.codes[i] != after.codes[i];
  EXPECT_LE(num_different, 2);
}

TEST(ErrorFeedback, ThreadsChangeNothing) {
  constexpr int kChannels = 256;
  const std::vector<float> weights = NormalValues(70 * kChannels, 10);
  const CorrelatedInputs inputs = MakeCorrelatedInputs(512, kChannels, 11);
  const std::vector<float> importance(kChannels, 1.0f);
  TwoLevelWeights one = QuantizeTwoLevel(weights, importance, 1);
  TwoLevelWeights three = one;

  FeedBackErrors(weights, inputs.gram, one, 1);
  FeedBackErrors(weights, inputs.gram, three, 3);

  EXPECT_TRUE(SameBytes(one, three));
}

}  // namespace
}  // namespace comet
