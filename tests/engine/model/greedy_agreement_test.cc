// The served 4-bit checkpoint of the default model beside its float source: the first greedy tokens
// of fixed prompts, and perplexity on a stretch of text.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <span>
#include <sstream>
#include <vector>

#include "engine/evaluation/perplexity.h"
#include "engine/model/model_source.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/make_backend.h"
#include "tests/engine/one_sequence.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

constexpr int kTokensCompared = 8;
constexpr int kPromptsAgreeing = 15;

// The twenty of 141 candidates whose continuation the float model is surest of: each of its first
// eight greedy tokens has at least 0.68 of the probability. Chosen by the float model alone.
constexpr const char* kSurePrompts[] = {
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,",
    "1900, 1910, 1920, 1930, 1940,",
    "21, 22, 23, 24, 25, 26,",
    "2000, 2001, 2002, 2003, 2004,",
    "1, 1, 1, 1, 1, 1, 1, 1,",
    "1001, 1002, 1003, 1004, 1005,",
    "We hold these truths to be self-evident, that all men",
    "Day 1: Monday\nDay 2: Tuesday\nDay 3: Wednesday\nDay",
    "2010-01-01\n2010-01-02\n2010-01-03\n2010-01-04\n",
    "11, 12, 13, 14, 15, 16,",
    "2, 4, 6, 8, 10, 12,",
    "a, b, c, d, e, f, g,",
    "5, 10, 15, 20, 25, 30,",
    "[0, 0, 0, 0, 0, 0, 0,",
    "1st, 2nd, 3rd, 4th, 5th,",
    "row 1: 10\nrow 2: 20\nrow 3: 30\nrow",
    "{\"name\": \"Alice\", \"age\": 30}\n{\"name\": \"Bob\", \"age\": 31}\n{\"name\":",
    "100 + 1 = 101\n100 + 2 = 102\n100 + 3 = 103\n100 + 4 =",
    "1, 4, 7, 10, 13, 16,",
    "1000, 2000, 3000, 4000, 5000,",
};

// Prompts whose continuation it is not sure of: near ties turn on any rounding (8-bit activations
// over the float weights already change most), so these are printed and hold no bar.
constexpr const char* kOpenPrompts[] = {
    "The capital of France is",
    "Once upon a time, there was a little",
    "The largest planet in the solar system is",
    "Water is made of hydrogen and",
    "The quick brown fox jumps over the",
    "In 1969, humans first landed on the",
    "The opposite of hot is",
    "To be or not to be, that is the",
    "Photosynthesis is the process by which",
    "The first president of the United States was",
    "Two plus two equals",
    "The Pacific Ocean is the",
    "def add(a, b):\n    return",
    "My favourite colour is blue because",
    "The heart pumps blood through the",
    "Albert Einstein is best known for his theory of",
    "A triangle has three",
    "The sun rises in the",
    "Monday, Tuesday, Wednesday,",
    "Romeo and Juliet was written by William",
};

constexpr ModelLimits kLimits{.step_tokens_max = 64,
                              .sequences_max = 1,
                              .logits_rows_max = 1,
                              .pages_per_sequence_max = 2,
                              .num_pages = 2};

// A model, its tokenizer and its back end, for one test.
struct LoadedModel {
  Backend backend;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
};

Result<LoadedModel> LoadAuto(const std::string& path, const ModelLimits& limits) {
  LoadedModel loaded;
  COMET_ASSIGN_OR_RETURN(loaded.backend, MakeBackend({.device = "cpu"}));
  COMET_ASSIGN_OR_RETURN(ModelSource source, ModelSource::Open(path));
  COMET_ASSIGN_OR_RETURN(const Precision precision, source.ChoosePrecision("auto", "auto"));
  COMET_ASSIGN_OR_RETURN(loaded.tokenizer, Tokenizer::Create(source.vocabulary()));
  COMET_ASSIGN_OR_RETURN(loaded.model, source.Load(loaded.backend, precision, limits));
  return loaded;
}

Result<std::vector<int>> ContinueGreedily(LoadedModel& loaded, std::vector<int> ids) {
  const size_t prompt_size = ids.size();
  size_t num_done = 0;
  while (ids.size() < prompt_size + kTokensCompared) {
    const int last_row = static_cast<int>(ids.size() - num_done) - 1;
    COMET_ASSIGN_OR_RETURN(const std::vector<float> logits,
                           ComputeLogits(loaded.backend, *loaded.model, kLimits,
                                         {.ids = std::span(ids).subspan(num_done),
                                          .first = static_cast<int>(num_done)},
                                         {&last_row, 1}));
    num_done = ids.size();
    ids.push_back(
        static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  return std::vector<int>(ids.begin() + static_cast<int64_t>(prompt_size), ids.end());
}

// Prints both continuations of every prompt; returns how many agree.
Result<int> CountAgreeing(LoadedModel& reference, LoadedModel& served,
                          std::span<const char* const> prompts) {
  int num_agreeing = 0;
  for (const char* prompt : prompts) {
    COMET_ASSIGN_OR_RETURN(const std::vector<int> ids,
                           reference.tokenizer->Encode(prompt, {.add_special = true}));
    COMET_ASSIGN_OR_RETURN(const std::vector<int> expected, ContinueGreedily(reference, ids));
    COMET_ASSIGN_OR_RETURN(const std::vector<int> actual, ContinueGreedily(served, ids));
    num_agreeing += expected == actual ? 1 : 0;
    std::printf("%s \"%s\"\n    float: %s\n    4-bit: %s\n",
                expected == actual ? "same  " : "DIFFER", prompt,
                reference.tokenizer->Decode(expected, false).c_str(),
                served.tokenizer->Decode(actual, false).c_str());
  }
  std::printf("%d of %zu prompts agree on the first %d greedy tokens\n", num_agreeing,
              prompts.size(), kTokensCompared);
  return num_agreeing;
}

TEST(ServedCheckpoint, AgreesWithTheFloatModelWhereThatIsSure) {
  COMET_REQUIRE_FILE(DefaultModelPath());
  COMET_REQUIRE_FILE(DefaultCheckpointPath());
  Result<LoadedModel> reference = LoadAuto(DefaultModelPath(), kLimits);
  ASSERT_TRUE(reference.ok()) << reference.status();
  Result<LoadedModel> served = LoadAuto(DefaultCheckpointPath(), kLimits);
  ASSERT_TRUE(served.ok()) << served.status();

  const Result<int> num_sure = CountAgreeing(*reference, *served, kSurePrompts);
  const Result<int> num_open = CountAgreeing(*reference, *served, kOpenPrompts);

  ASSERT_TRUE(num_sure.ok()) << num_sure.status();
  EXPECT_TRUE(num_open.ok()) << num_open.status();
  EXPECT_GE(*num_sure, kPromptsAgreeing);
}

TEST(ServedCheckpoint, ContinuesTheCapitalOfFranceWithParis) {
  COMET_REQUIRE_FILE(DefaultCheckpointPath());
  Result<LoadedModel> served = LoadAuto(DefaultCheckpointPath(), kLimits);
  ASSERT_TRUE(served.ok()) << served.status();
  const Result<std::vector<int>> ids =
      served->tokenizer->Encode("The capital of France is", {.add_special = true});
  ASSERT_TRUE(ids.ok());

  const Result<std::vector<int>> continuation = ContinueGreedily(*served, *ids);

  ASSERT_TRUE(continuation.ok()) << continuation.status();
  EXPECT_NE(served->tokenizer->Decode(*continuation, false).find("Paris"), std::string::npos);
}

// A smoke bound: `comet eval perplexity` measures the real figure over whole windows.
TEST(ServedCheckpoint, PerplexityStaysNearTheFloatModels) {
  const std::string text_path = TestDataPath("text/wikitext-2-v1.valid.tokens.txt");
  COMET_REQUIRE_FILE(text_path);
  COMET_REQUIRE_FILE(DefaultModelPath());
  COMET_REQUIRE_FILE(DefaultCheckpointPath());
  std::ostringstream text;
  text << std::ifstream(text_path, std::ios::binary).rdbuf();
  const std::string start = text.str().substr(0, 8192);
  const PerplexityOptions options{.window_tokens = 512, .windows_max = 2};
  double perplexity[2] = {};

  int i = 0;
  for (const std::string& path : {DefaultModelPath(), DefaultCheckpointPath()}) {
    Result<LoadedModel> loaded = LoadAuto(path, PerplexityLimits(options));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    const Result<std::vector<int>> ids = loaded->tokenizer->Encode(start, {.add_special = true});
    ASSERT_TRUE(ids.ok());
    const Result<PerplexityResult> result = EvaluatePerplexity(
        *loaded->backend.device, *loaded->model, *ids, options, /*progress=*/nullptr);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->num_nonfinite_rows, 0);
    EXPECT_EQ(result->num_predictions, 2 * 511);
    perplexity[i++] = result->perplexity;
  }

  std::printf("perplexity of 2 windows of 512: float %.3f, served %.3f\n", perplexity[0],
              perplexity[1]);
  EXPECT_LT(perplexity[1], perplexity[0] * 1.3);
}

}  // namespace
}  // namespace comet
