#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/model/decoder_layer.h"
#include "engine/quantizer/accuracy_report.h"
#include "engine/quantizer/activation_statistics.h"
#include "engine/quantizer/cache_rounding.h"
#include "engine/quantizer/channel_order.h"
#include "engine/quantizer/int8_rows.h"
#include "engine/quantizer/key_smoothing.h"
#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/precision_budget.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/two_level_weights.h"
#include "kernels/base/math.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/two_level_values.h"

namespace comet {
namespace {

TEST(ParallelRows, CoversEveryRowOnce) {
  for (const int num_rows : {0, 1, 2, 3, 100}) {
    for (const int num_threads : {1, 2, 3, 7}) {
      std::vector<int> visits(static_cast<size_t>(num_rows));
      ParallelRows(num_threads, num_rows, [&](int first, int last) {
        for (int i = first; i < last; ++i) ++visits[static_cast<size_t>(i)];
      });

      EXPECT_EQ(std::ranges::count(visits, 1), num_rows);
    }
  }
}

TEST(ChannelOrder, ReachesTheWantedShareInWholeBlocks) {
  EXPECT_EQ(NumInt4Channels(576, 0.84), 512);
  EXPECT_EQ(NumInt4Channels(1536, 0.84), 1408);
  EXPECT_EQ(NumInt4Channels(512, 0.75), 384);
  EXPECT_EQ(NumInt4Channels(576, 1.0), 512);  // The short block is never INT4.
  EXPECT_EQ(NumInt4Channels(1536, 0.0), 0);
  EXPECT_EQ(NumInt4Channels(64, 0.84), 0);
}

TEST(ChannelOrder, SendsOutliersToTheEndAndSortsByActivity) {
  std::vector<float> abs_max(192, 1.0f);
  abs_max[3] = 50.0f;
  abs_max[100] = 60.0f;
  std::vector<float> activity(192, 1.0f);
  activity[7] = 3.0f;
  activity[3] = 2.0f;

  const ChannelOrder order = OrderChannels(abs_max, activity, 128);

  EXPECT_EQ(order.num_int4_channels, 128);
  EXPECT_EQ(order.gather[0], 7);
  EXPECT_EQ(order.gather[128], 3);
  EXPECT_EQ(std::ranges::count(std::span(order.gather).first(128), 3), 0);
  EXPECT_EQ(std::ranges::count(std::span(order.gather).first(128), 100), 0);
  std::vector<int32_t> sorted = order.gather;
  std::ranges::sort(sorted);
  for (int32_t i = 0; i < 192; ++i) EXPECT_EQ(sorted[static_cast<size_t>(i)], i);
}

// Activities as a model's: a few channels carry most.
TEST(ChannelOrder, DealsEquallyActiveBlocks) {
  ChannelOrder order{.gather = {}, .num_int4_channels = 4 * 128};
  std::vector<double> activity;
  for (int32_t i = 0; i < 600; ++i) {
    order.gather.push_back(599 - i);
    activity.push_back(std::exp(-0.01 * (599 - i)));
  }
  const ChannelOrder ordered = order;

  DealOverBlocks(order);

  double sums[4] = {};
  for (size_t i = 0; i < 512; ++i) {
    sums[i / 128] += activity[static_cast<size_t>(ordered.gather[i])];
  }
  EXPECT_GT(sums[0], 10.0 * sums[3]);  // Before.
  std::ranges::fill(sums, 0.0);
  for (size_t i = 0; i < 512; ++i) {
    sums[i / 128] += activity[static_cast<size_t>(order.gather[i])];
  }
  for (const double sum : sums) EXPECT_NEAR(sum / sums[0], 1.0, 0.01);
  EXPECT_TRUE(
      std::equal(order.gather.begin() + 512, order.gather.end(), ordered.gather.begin() + 512));
  std::vector<int32_t> sorted = order.gather;
  std::ranges::sort(sorted);
  for (int32_t i = 0; i < 600; ++i) EXPECT_EQ(sorted[static_cast<size_t>(i)], i);
}

TEST(PrecisionBudget, MeetsTheShareOverAllLayers) {
  ModelConfig config;
  config.hidden_size = 576;
  config.num_heads = 9;
  config.num_kv_heads = 3;
  config.head_dim = 64;
  config.ffn_size = 1536;
  PrecisionBudget budget(config, 0.84);
  double products = 0.0;
  double int4 = 0.0;

  for (int layer = 0; layer < 30; ++layer) {
    const LayerInt4Channels channels = budget.NextLayer();
    int4 += 960.0 * channels.qkv + 576.0 * channels.o + 3072.0 * channels.gate_up +
            576.0 * channels.down;
    products += 576.0 * (960 + 576 + 3072 + 1536);
    EXPECT_GE(int4 / products, 0.84) << layer;
    EXPECT_EQ(channels.gate_up, 512);
  }

  EXPECT_LT(int4 / products, 0.84 + 576.0 * 128 / products);
  PrecisionBudget all(config, 1.0);
  EXPECT_EQ(all.NextLayer().o, 512);
  PrecisionBudget none(config, 0.0);
  EXPECT_EQ(none.NextLayer().down, 0);
}

TEST(ChannelOrder, PermutesColumnsAndRows) {
  const std::vector<float> matrix = {1, 2, 3, 4, 5, 6};

  EXPECT_EQ(PermuteColumns(matrix, std::vector<int32_t>{2, 0, 1}, 2),
            (std::vector<float>{3, 1, 2, 6, 4, 5}));
  EXPECT_EQ(PermuteRows(matrix, std::vector<int32_t>{1, 0}),
            (std::vector<float>{4, 5, 6, 1, 2, 3}));
}

TEST(ActivationStatistics, DampingGivesSilentChannelsAShare) {
  ActivationStatistics statistics;
  statistics.num_channels = 2;
  statistics.gram = {0.0f, 0.0f, 0.0f, 10.0f};

  EXPECT_EQ(statistics.DampedGram(0.1f), (std::vector<float>{0.1f, 0.0f, 0.0f, 2.1f}));
  EXPECT_EQ(statistics.Activity(), (std::vector<float>{0.0f, 10.0f}));
}

// Logits are sums over rotary pairs of query times key: the products of their rows must stay.
TEST(KeySmoothing, KeepsLogitsAndBalancesPairs) {
  ModelConfig config;
  config.hidden_size = 12;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.rotary_dim = 8;
  FloatLayer layer;
  layer.qkv = NormalValues(static_cast<size_t>(config.qkv_size() * 12), 21);
  for (size_t k = 0; k < 12; ++k) layer.qkv[(32 + 3) * 12 + k] *= 50.0f;  // A loud key channel.
  std::vector<float> gram(12 * 12);
  for (size_t k = 0; k < 12; ++k) gram[k * 13] = 1.0f;
  FloatLayer smoothed = layer;

  SmoothKeys(config, gram, 2, smoothed);

  const auto row = [](const FloatLayer& of, size_t n) { return of.qkv[n * 12 + 5]; };
  for (size_t head = 0; head < 4; ++head) {
    for (size_t channel = 0; channel < 8; ++channel) {
      const size_t q = head * 8 + channel;
      const size_t k = 32 + head / 2 * 8 + channel;
      const float product = row(layer, q) * row(layer, k);
      EXPECT_NEAR(row(smoothed, q) * row(smoothed, k), product, 1e-5f * std::abs(product));
    }
  }
  // A pair shares its factor, or rotating it would not commute.
  EXPECT_FLOAT_EQ(row(smoothed, 3) / row(layer, 3), row(smoothed, 7) / row(layer, 7));
  EXPECT_LT(std::abs(row(smoothed, 35) / row(layer, 35)), 0.3f);
  for (size_t v = 48 * 12; v < layer.qkv.size(); ++v) EXPECT_EQ(smoothed.qkv[v], layer.qkv[v]);
}

TEST(TwoLevelWeights, ReproducesValuesOnItsGrid) {
  Random random(1);
  constexpr int kChannels = 320;
  constexpr int kSteps[] = {16, -9, 3};
  std::vector<float> weights;
  for (int k = 0; k < kChannels; ++k) {
    const int code = k % 128 == 0 ? -8 : random.NextInt(16) - 8;  // The full range in each block.
    weights.push_back(0.001f * static_cast<float>(kSteps[k / 128] * code));
  }
  const std::vector<float> importance(kChannels, 1.0f);

  const TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, 1);

  EXPECT_LT(RelativeError(ValuesOf(quantized, kChannels), weights), 1e-6);
}

TEST(TwoLevelWeights, PutsTheLargerTailOnTheEighthStep) {
  std::vector<float> weights(128, 0.01f);
  weights[5] = 8.0f;
  weights[6] = -7.0f;
  const std::vector<float> importance(128, 1.0f);

  const TwoLevelWeights positive = QuantizeTwoLevel(weights, importance, 1);
  for (float& weight : weights) weight = -weight;
  const TwoLevelWeights negative = QuantizeTwoLevel(weights, importance, 1);

  EXPECT_LT(positive.steps[0], 0);
  EXPECT_GT(negative.steps[0], 0);
}

TEST(TwoLevelWeights, StaysInsideTheRangesThatKernelsNeed) {
  std::vector<float> weights = NormalValues(64 * 576, 2);
  for (size_t i = 0; i < weights.size(); i += 97) weights[i] *= 40.0f;
  const std::vector<float> importance(576, 1.0f);

  const TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, 2);

  const W4axWeights view{.codes = {quantized.codes.data(), DType::kU8, {64, 288}},
                         .steps = {quantized.steps.data(), DType::kI8, {64, 5}},
                         .scale = {quantized.scale.data(), DType::kF32, {64}}};
  EXPECT_TRUE(Validate(view).ok()) << Validate(view);
}

// 4-bit uniform codes of a normal distribution reach 20.2 dB at best; blocks of 128 find their own
// step.
TEST(TwoLevelWeights, NormalWeightsKeepTwentyDecibels) {
  const std::vector<float> weights = NormalValues(64 * 512, 3);
  const std::vector<float> importance(512, 1.0f);

  const TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, 1);

  const double decibels = -20.0 * std::log10(RelativeError(ValuesOf(quantized, 512), weights));
  EXPECT_GT(decibels, 20.0);
}

TEST(TwoLevelWeights, ZeroAndTinyRowsAreZero) {
  std::vector<float> weights(2 * 128, 0.0f);
  std::fill(weights.begin() + 128, weights.end(), 1e-38f);
  const std::vector<float> importance(128, 1.0f);

  const TwoLevelWeights quantized = QuantizeTwoLevel(weights, importance, 1);

  for (const float value : ValuesOf(quantized, 128)) EXPECT_EQ(value, 0.0f);
  for (const float scale : quantized.scale) EXPECT_GT(scale, 0.0f);
}

TEST(TwoLevelWeights, ThreadsChangeNothing) {
  const std::vector<float> weights = NormalValues(37 * 320, 4);
  std::vector<float> importance = NormalValues(320, 5);
  for (float& value : importance) value = value * value;

  const TwoLevelWeights one = QuantizeTwoLevel(weights, importance, 1);
  const TwoLevelWeights three = QuantizeTwoLevel(weights, importance, 3);

  EXPECT_TRUE(SameBytes(one, three));
}

TEST(Int8Rows, ErrorStaysWithinHalfAStep) {
  std::vector<float> weights = NormalValues(8 * 64, 12);
  std::fill(weights.begin(), weights.begin() + 64, 0.0f);

  const Int8Rows rows = QuantizeInt8Rows(weights, 64, 2);

  for (size_t i = 0; i < weights.size(); ++i) {
    const float scale = rows.scale[i / 64];
    EXPECT_NEAR(static_cast<float>(rows.codes[i]) * scale, weights[i], 0.5001f * scale);
    EXPECT_NE(rows.codes[i], -128);
  }
  EXPECT_LT(rows.relative_error, 0.01);
}

TEST(AccuracyReport, MeansCountEveryLinearTheSame) {
  AccuracyReport report;
  report.layers.resize(2);
  report.layers[0].qkv.weight_error = 0.8;
  report.layers[1].down.weight_error = 0.4;

  EXPECT_NEAR(report.Mean().weight_error, 1.2 / 8, 1e-12);
  EXPECT_NE(report.ToJson().find("\"weight_error\": 0.8"), std::string::npos);
}

TEST(CacheRounding, ValuesStayWithinHalfAStep) {
  std::vector<float> row = NormalValues(64, 8);
  const std::vector<float> original = row;
  const auto [low, high] = std::ranges::minmax(original);

  RoundThroughCache(row, 4);

  for (size_t i = 0; i < row.size(); ++i) {
    EXPECT_NEAR(row[i], original[i], 0.51f * (high - low) / 15.0f);
  }
  std::ranges::sort(row);
  row.erase(std::unique(row.begin(), row.end()), row.end());
  EXPECT_LE(row.size(), 16u);
}

TEST(CacheRounding, HadamardIsItsOwnInverse) {
  const std::vector<float> original = NormalValues(64, 9);
  std::vector<float> row = original;

  HadamardRow(row);
  EXPECT_NEAR(row[0], std::accumulate(original.begin(), original.end(), 0.0f) / 8.0f, 1e-5f);
  HadamardRow(row);

  for (size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(row[i], original[i], 1e-5f);
}

}  // namespace
}  // namespace comet
