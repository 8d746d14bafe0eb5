#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <vector>

#include "engine/sampling/sample_rows.h"
#include "engine/sampling/sampling_check.h"
#include "engine/sampling/sequence_sampling.h"
#include "engine/sampling/token_history.h"
#include "kernels/base/random.h"

namespace comet {
namespace {

constexpr int kVocab = 100;

std::string MessageOf(const SamplingParams& params) {
  const Status status = Validate(params, kVocab);
  return status.ok() ? "" : status.message();
}

SequenceSampling SamplingOf(const SamplingParams& params, const std::vector<int>& prompt_ids = {},
                            int num_top_logprobs = -1) {
  return SequenceSampling(std::make_shared<const SamplingParams>(params), /*seed=*/5,
                          /*choice_idx=*/0, num_top_logprobs, prompt_ids);
}

TEST(SamplingCheck, AcceptsTheDefaults) { EXPECT_TRUE(Validate(SamplingParams{}, kVocab).ok()); }

TEST(SamplingCheck, AcceptsTheEdgesOfEveryRange) {
  EXPECT_EQ(MessageOf({.temperature = 0.0f, .min_p = 1.0f, .presence_penalty = -2.0f}), "");
  EXPECT_EQ(MessageOf({.temperature = 2.0f, .top_p = 1e-6f, .repetition_penalty = 10.0f}), "");
  EXPECT_EQ(MessageOf({.frequency_penalty = 2.0f, .logit_bias = {{0, -100.0f}, {99, 100.0f}}}), "");
}

TEST(SamplingCheck, NamesTheFieldWhatItIsAndWhatIsExpected) {
  EXPECT_EQ(MessageOf({.temperature = 3.0f}), "sampling: temperature is 3, expected 0 to 2");
  EXPECT_EQ(MessageOf({.top_p = 0.0f}), "sampling: top_p is 0, expected above 0, to 1");
  EXPECT_EQ(MessageOf({.top_k = -1}), "sampling: top_k is -1, expected at least 0");
  EXPECT_EQ(MessageOf({.min_p = 1.5f}), "sampling: min_p is 1.5, expected 0 to 1");
  EXPECT_EQ(MessageOf({.repetition_penalty = 0.0f}),
            "sampling: repetition_penalty is 0, expected 0.01 to 10");
  EXPECT_EQ(MessageOf({.presence_penalty = 2.5f}),
            "sampling: presence_penalty is 2.5, expected -2 to 2");
  EXPECT_EQ(MessageOf({.frequency_penalty = -3.0f}),
            "sampling: frequency_penalty is -3, expected -2 to 2");
  EXPECT_EQ(MessageOf({.logit_bias = {{100, 1.0f}}}),
            "sampling: a token of logit_bias is 100, expected 0 to 99");
  EXPECT_EQ(MessageOf({.logit_bias = {{7, 101.0f}}}),
            "sampling: logit_bias of token 7 is 101, expected -100 to 100");
  EXPECT_EQ(MessageOf({.logit_bias = {{7, 1.0f}, {8, 1.0f}, {7, 2.0f}}}),
            "sampling: logit_bias names token 7 more than once, expected once");
}

// Such a row would count as a fault of the device.
TEST(SamplingCheck, NoPenaltyTakesALogitOutOfRange) {
  constexpr float kLargestLogit = 1e30f;  // Far beyond what f16 activations give.
  for (float penalty = 1e-40f; penalty <= 20.0f; penalty *= 1.25f) {
    if (MessageOf({.repetition_penalty = penalty}) != "") continue;
    EXPECT_TRUE(std::isfinite(kLargestLogit / penalty)) << penalty;
    EXPECT_TRUE(std::isfinite(-kLargestLogit * penalty)) << penalty;
  }
  EXPECT_EQ(MessageOf({.repetition_penalty = 0.01f}), "");
  EXPECT_NE(MessageOf({.repetition_penalty = 0.0099f}), "");
}

TEST(SamplingCheck, RefusesNaNEverywhere) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(MessageOf({.temperature = nan}), "");
  EXPECT_NE(MessageOf({.top_p = nan}), "");
  EXPECT_NE(MessageOf({.min_p = nan}), "");
  EXPECT_NE(MessageOf({.repetition_penalty = nan}), "");
  EXPECT_NE(MessageOf({.presence_penalty = nan}), "");
  EXPECT_NE(MessageOf({.frequency_penalty = nan}), "");
  EXPECT_NE(MessageOf({.logit_bias = {{7, nan}}}), "");
}

TEST(SamplingCheck, RefusesTooManyBiases) {
  SamplingParams params;
  for (int i = 0; i <= kLogitBiasesMax; ++i) params.logit_bias.emplace_back(i, 1.0f);

  const Status status = Validate(params, /*vocab_size=*/5000);

  EXPECT_EQ(status.message(), "sampling: logit_bias has 1025 entries, expected at most 1024");
}

TEST(TokenHistory, ListsEachTokenOnceAndCountsOutputOnly) {
  TokenHistory history(std::vector<int>{5, 3, 5});

  history.AddOutput(3);
  history.AddOutput(9);
  history.AddOutput(3);

  EXPECT_EQ(std::vector<int>(history.token_ids().begin(), history.token_ids().end()),
            (std::vector<int>{5, 3, 9}));
  EXPECT_EQ(std::vector<int>(history.output_counts().begin(), history.output_counts().end()),
            (std::vector<int>{0, 2, 1}));
}

TEST(UniformOf, DependsOnSeedChoiceAndPositionAlone) {
  EXPECT_EQ(UniformOf(1, 2, 3), UniformOf(1, 2, 3));
  EXPECT_NE(UniformOf(1, 2, 3), UniformOf(2, 2, 3));
  EXPECT_NE(UniformOf(1, 2, 3), UniformOf(1, 3, 3));
  EXPECT_NE(UniformOf(1, 2, 3), UniformOf(1, 2, 4));
  // Choice and position must not be exchangeable.
  EXPECT_NE(UniformOf(1, 2, 3), UniformOf(1, 3, 2));
}

TEST(UniformOf, IsUniform) {
  constexpr int kDraws = 100'000;
  std::vector<int> num_in_tenth(10, 0);
  double sum = 0.0;
  for (int i = 0; i < kDraws; ++i) {
    const float value = UniformOf(static_cast<uint64_t>(i % 100), i % 7, i / 100);
    ASSERT_GE(value, 0.0f);
    ASSERT_LT(value, 1.0f);
    sum += value;
    ++num_in_tenth[static_cast<size_t>(value * 10.0f)];
  }

  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
  // Five standard deviations of a binomial count.
  for (const int count : num_in_tenth) EXPECT_NEAR(count, kDraws / 10, 5 * std::sqrt(9000.0));
}

TEST(SequenceSampling, DrawsTheNumberOfItsSeedAndPosition) {
  const SequenceSampling sampling = SamplingOf({});

  EXPECT_EQ(sampling.UniformAt(0), UniformOf(5, 0, 0));
  EXPECT_EQ(sampling.UniformAt(1), UniformOf(5, 0, 1));
}

TEST(SequenceSampling, KeepsAHistoryOnlyForAPenalty) {
  EXPECT_EQ(SamplingOf({}).history(), nullptr);
  EXPECT_NE(SamplingOf({.repetition_penalty = 1.1f}).history(), nullptr);
  EXPECT_NE(SamplingOf({.presence_penalty = 0.5f}).history(), nullptr);
  EXPECT_NE(SamplingOf({.frequency_penalty = -0.5f}).history(), nullptr);
}

TEST(SampleRows, HoldsOneRowASequence) {
  SampleRows rows;
  rows.Reserve(4);
  SequenceSampling penalised = SamplingOf({.presence_penalty = 0.5f}, {4, 4, 2});
  penalised.AddOutput(2);

  rows.Add(SamplingOf({.temperature = 0.0f, .logit_bias = {{3, -1.0f}, {1, 2.0f}}}, {4}), 0);
  rows.Add(penalised, 1);
  rows.Add(SamplingOf({.temperature = 0.5f, .top_p = 0.9f, .top_k = 40, .min_p = 0.1f}, {4}, 3), 0);

  EXPECT_EQ(rows.num_rows(), 3);
  EXPECT_EQ(rows.temperature, (std::vector<float>{0.0f, 1.0f, 0.5f}));
  EXPECT_EQ(rows.top_k, (std::vector<int32_t>{0, 0, 40}));
  EXPECT_EQ(rows.top_p, (std::vector<float>{1.0f, 1.0f, 0.9f}));
  EXPECT_EQ(rows.min_p, (std::vector<float>{0.0f, 0.0f, 0.1f}));
  EXPECT_EQ(rows.presence_penalty, (std::vector<float>{0.0f, 0.5f, 0.0f}));
  EXPECT_EQ(rows.uniform,
            (std::vector<float>{UniformOf(5, 0, 0), UniformOf(5, 0, 1), UniformOf(5, 0, 0)}));
  EXPECT_EQ(rows.history_start, (std::vector<int32_t>{0, 0, 2, 2}));
  EXPECT_EQ(rows.history_ids, (std::vector<int32_t>{4, 2}));
  EXPECT_EQ(rows.history_counts, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(rows.bias_start, (std::vector<int32_t>{0, 2, 2, 2}));
  EXPECT_EQ(rows.bias_ids, (std::vector<int32_t>{3, 1}));
  EXPECT_EQ(rows.bias_values, (std::vector<float>{-1.0f, 2.0f}));
  EXPECT_EQ(rows.num_top, 3);
}

TEST(SampleRows, IsEmptyAfterClear) {
  SampleRows rows;
  rows.Reserve(1);
  rows.Add(SamplingOf({.repetition_penalty = 2.0f, .logit_bias = {{3, 1.0f}}}, {1}, 2), 0);

  rows.Clear();

  EXPECT_EQ(rows.num_rows(), 0);
  EXPECT_EQ(rows.history_start, (std::vector<int32_t>{0}));
  EXPECT_TRUE(rows.history_ids.empty());
  EXPECT_TRUE(rows.bias_ids.empty());
  EXPECT_EQ(rows.num_top, 0);
}

}  // namespace
}  // namespace comet
