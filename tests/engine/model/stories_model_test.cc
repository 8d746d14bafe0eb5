// A real trained LLaMA, stories260K, against logits computed by an independent float64 program.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/model/model_source.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/make_backend.h"
#include "tests/engine/one_sequence.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

constexpr ModelLimits kLimits = LimitsOfOneSequence(256);

class StoriesModelTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string model_path = TestDataPath("models/stories260K.gguf");
    const std::string golden_path = TestDataPath("models/stories260K_golden.json");
    COMET_REQUIRE_FILE(model_path);
    COMET_REQUIRE_FILE(golden_path);
    std::ifstream(golden_path) >> golden_;
    Result<Backend> backend = MakeBackend({.device = GetParam()});
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = std::move(backend).value();
    Result<ModelSource> source = ModelSource::Open(model_path);
    ASSERT_TRUE(source.ok()) << source.status();
    source_ = std::make_unique<ModelSource>(std::move(source).value());
    const Result<Precision> precision = source_->ChoosePrecision("float", "32");
    ASSERT_TRUE(precision.ok()) << precision.status();
    Result<std::unique_ptr<Model>> model = source_->Load(backend_, *precision, kLimits);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = std::move(model).value();
  }

  // Runs tokens at [first, first + count) of one sequence; returns the last one's logits.
  std::vector<float> LastLogits(const std::vector<int>& ids, int first, int count) {
    const int last_row = count - 1;
    const auto logits = ComputeLogits(
        backend_, *model_, kLimits,
        {.ids = std::span(ids).subspan(static_cast<size_t>(first), static_cast<size_t>(count)),
         .first = first},
        {&last_row, 1});
    EXPECT_TRUE(logits.ok()) << logits.status();
    return *logits;
  }

  nlohmann::json golden_;
  Backend backend_;
  std::unique_ptr<ModelSource> source_;
  std::unique_ptr<Model> model_;
};

TEST_P(StoriesModelTest, LogitsEqualTheGoldenOnes) {
  for (const nlohmann::json& prompt : golden_["prompts"]) {
    const auto ids = prompt["ids"].get<std::vector<int>>();
    const auto expected = prompt["last_logits_f64"].get<std::vector<double>>();

    const std::vector<float> actual = LastLogits(ids, 0, static_cast<int>(ids.size()));

    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(actual[i]), expected[i], 2e-4) << "logit " << i;
    }
  }
}

TEST_P(StoriesModelTest, GreedyTokensEqualTheGoldenOnes) {
  const auto expected = golden_["greedy_from_bos_ids"].get<std::vector<int>>();
  std::vector<int> ids = {expected.front()};

  while (ids.size() < expected.size()) {
    const std::vector<float> logits = LastLogits(ids, static_cast<int>(ids.size()) - 1, 1);
    ids.push_back(
        static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }

  EXPECT_EQ(ids, expected);
}

TEST_P(StoriesModelTest, GreedyTextEqualsThePublishedOne) {
  const auto ids = golden_["greedy_from_bos_ids"].get<std::vector<int>>();
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(source_->vocabulary());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  const std::string text = (*tokenizer)->Decode(ids, /*with_special=*/false);

  const auto published = golden_["published_expected_text"].get<std::string>();
  EXPECT_EQ(text.substr(0, published.size()), published);
}

TEST_P(StoriesModelTest, TokenizerEncodesTheGoldenPrompts) {
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(source_->vocabulary());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  for (const nlohmann::json& prompt : golden_["prompts"]) {
    const Result<std::vector<int>> ids =
        (*tokenizer)->Encode(prompt["text"].get<std::string>(), {.add_special = true});

    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(*ids, prompt["ids"].get<std::vector<int>>());
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, StoriesModelTest, testing::Values("reference", "cpu"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace comet
