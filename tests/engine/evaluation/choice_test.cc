#include "engine/evaluation/choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "engine/evaluation/log_likelihood.h"
#include "engine/evaluation/perplexity.h"
#include "engine/loader/float_source.h"
#include "kernels/make_backend.h"
#include "tests/engine/one_sequence.h"
#include "tests/engine/stories_fixture.h"

namespace comet {
namespace {

ItemScore Scored(std::vector<OptionScore> options, int gold) {
  return {.options = std::move(options), .gold = gold};
}

TEST(ChoiceScore, NormalisationDecidesBetweenAShortAndALongOption) {
  const ItemScore item = Scored({{.log_likelihood = -4.0, .num_tokens = 2, .num_bytes = 4},
                                 {.log_likelihood = -5.0, .num_tokens = 2, .num_bytes = 10}},
                                1);

  EXPECT_TRUE(item.IsRight(ChoiceNormalisation::kBytes));    // -1 and -0.5
  EXPECT_FALSE(item.IsRight(ChoiceNormalisation::kTokens));  // -2 and -2.5
  EXPECT_FALSE(item.IsRight(ChoiceNormalisation::kNone));
}

TEST(ChoiceScore, WhatIsNoNumberIsWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const ItemScore item = Scored({{.log_likelihood = -1.0, .num_tokens = 1, .num_bytes = 1},
                                 {.log_likelihood = nan, .num_tokens = 1, .num_bytes = 1}},
                                0);

  EXPECT_TRUE(item.has_nonfinite());
  EXPECT_FALSE(item.IsRight(ChoiceNormalisation::kBytes));
}

TEST(ChoiceScore, PairingTakesOutWhatBothModelsShare) {
  const OptionScore high{.log_likelihood = -1.0, .num_tokens = 1, .num_bytes = 1};
  const OptionScore low{.log_likelihood = -2.0, .num_tokens = 1, .num_bytes = 1};
  const ItemScore right = Scored({high, low}, 0);
  const ItemScore wrong = Scored({low, high}, 0);
  const std::vector<ItemScore> reference = {right, right, wrong, wrong};
  const std::vector<ItemScore> model = {right, wrong, wrong, wrong};

  const Estimate accuracy = Accuracy(model, ChoiceNormalisation::kBytes);
  const Estimate difference = PairedDifference(model, reference, ChoiceNormalisation::kBytes);

  EXPECT_DOUBLE_EQ(accuracy.mean, 0.25);
  EXPECT_DOUBLE_EQ(accuracy.standard_error, std::sqrt(0.75 / 3.0 / 4.0));
  EXPECT_DOUBLE_EQ(difference.mean, -0.25);
  EXPECT_DOUBLE_EQ(difference.standard_error, std::sqrt(0.75 / 3.0 / 4.0));
  EXPECT_EQ(PairedDifference(model, model, ChoiceNormalisation::kBytes).standard_error, 0.0);
}

TEST(LogLikelihood, IsThatOfSoftmaxWhateverTheOffset) {
  const std::vector<float> logits = {1000.0f, 1001.0f, 1002.0f};

  double sum = 0.0;
  for (int i = 0; i < 3; ++i) sum += std::exp(LogLikelihood(logits, i));

  EXPECT_NEAR(sum, 1.0, 1e-6);
  EXPECT_NEAR(LogLikelihood(logits, 2) - LogLikelihood(logits, 0), 2.0, 1e-6);
}

TEST(LogLikelihood, IsThatOfSumsInDouble) {
  std::mt19937 random(7);
  std::normal_distribution<float> value(0.0f, 6.0f);
  std::vector<float> logits(49152 + 5);
  for (float& logit : logits) logit = value(random);

  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));

  for (const size_t target : {size_t{0}, logits.size() - 1}) {
    EXPECT_NEAR(LogLikelihood(logits, static_cast<int>(target)),
                static_cast<double>(logits[target]) - std::log(sum), 5e-7);
  }
}

TEST(LogLikelihood, IsNotFiniteWhereALogitIsNaNOrInfinite) {
  for (const size_t place : {0, 17, 99}) {
    for (const float value :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> logits(100, 1.0f);
      logits[place] = value;
      EXPECT_FALSE(std::isfinite(LogLikelihood(logits, 3))) << place << ' ' << value;
    }
  }
}

constexpr ModelLimits kAloneLimits = LimitsOfOneSequence(256);

class ChoiceScoringTest : public StoriesTest {
 protected:
  // 40 items of 2 to 4 options whose lengths cross pages, groups and steps.
  std::vector<TokenizedItem> ManyItems() const {
    std::vector<TokenizedItem> items;
    for (int i = 0; i < 40; ++i) {
      TokenizedItem& item = items.emplace_back();
      for (int j = 0; j < 2 + i % 3; ++j) {
        TokenizedOption option{.num_context = 1 + i % 7 * 11, .continuation_bytes = 3};
        const int length = option.num_context + 1 + (5 * j + 3 * i) % 70;
        // The first half of a context is common to the item, the rest is the option's own.
        for (int p = 0; p < length; ++p) {
          const bool is_shared = p < option.num_context / 2;
          option.ids.push_back(p == 0 ? 1 : 3 + (i * 31 + p * 17 + (is_shared ? 0 : j * 7)) % 500);
        }
        item.options.push_back(std::move(option));
      }
    }
    return items;
  }

  Result<std::unique_ptr<Model>> Load(const KvFormat& kv, const ModelLimits& limits) {
    Precision precision = kFloatPrecision;
    precision.kv = kv;
    return Model::Load(backend_, *stories_, precision, limits);
  }

  // Every option alone, from its first token, in one step.
  double ScoreAlone(Model& model, const TokenizedOption& option) {
    const int num_tokens = static_cast<int>(option.ids.size()) - 1;
    const std::vector<int> all = FirstIntegers(num_tokens);
    const auto rows = std::span(all).subspan(static_cast<size_t>(option.num_context) - 1);
    const auto logits =
        ComputeLogits(backend_, model, kAloneLimits,
                      {.ids = std::span(option.ids).first(static_cast<size_t>(num_tokens))}, rows);
    EXPECT_TRUE(logits.ok()) << logits.status();
    double sum = 0.0;
    for (size_t i = 0; i < rows.size(); ++i) {
      sum += LogLikelihood(std::span(*logits).subspan(i * 512, 512),
                           option.ids[static_cast<size_t>(rows[i]) + 1]);
    }
    return sum;
  }
};

// Sharing a context, batching and chunking change no bit, also where the cache rounds.
TEST_F(ChoiceScoringTest, EqualsEachOptionRunAlone) {
  const std::vector<TokenizedItem> items = ManyItems();
  for (const KvFormat& kv : {KvFormat{16, 16}, KvFormat{4, 4}}) {
    auto batched = Load(kv, ChoiceLimits(items));
    auto alone = Load(kv, kAloneLimits);
    ASSERT_TRUE(batched.ok() && alone.ok()) << batched.status() << alone.status();
    int done = 0;

    const auto scores = ScoreChoices(*backend_.device, **batched, items, [&](int now, int all) {
      EXPECT_GT(now, done);
      EXPECT_EQ(all, 40);
      done = now;
    });

    ASSERT_TRUE(scores.ok()) << scores.status();
    EXPECT_EQ(done, 40);
    for (size_t i = 0; i < items.size(); ++i) {
      for (size_t j = 0; j < items[i].options.size(); ++j) {
        const TokenizedOption& option = items[i].options[j];
        const OptionScore& score = (*scores)[i].options[j];
        EXPECT_EQ(score.num_tokens, static_cast<int>(option.ids.size()) - option.num_context);
        EXPECT_DOUBLE_EQ(score.log_likelihood, ScoreAlone(**alone, option)) << i << " " << j;
      }
    }
  }
}

TEST_F(ChoiceScoringTest, PrefersTheLikelyEndOfAStory) {
  const auto tokenizer = Tokenizer::Create(stories_->vocabulary());
  ASSERT_TRUE(tokenizer.ok());
  const auto items =
      ParseChoiceItems("f",
                       R"({"query": "Once upon a time, there was a little",)"
                       R"("choices": ["girl named Lily.", "tax on bad of."], "gold": 0})",
                       0);
  ASSERT_TRUE(items.ok()) << items.status();
  const auto tokenized = TokenizeChoiceItem(**tokenizer, items->front(), 128);
  ASSERT_TRUE(tokenized.ok()) << tokenized.status();
  const std::vector<TokenizedItem> all = {*tokenized};
  auto model = Load({16, 16}, ChoiceLimits(all));
  ASSERT_TRUE(model.ok()) << model.status();

  const auto scores = ScoreChoices(*backend_.device, **model, all, {});

  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_TRUE(scores->front().IsRight(ChoiceNormalisation::kBytes));
}

}  // namespace
}  // namespace comet
