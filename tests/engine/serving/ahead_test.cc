// An engine that plans and issues a step before it knows the tokens of the one before, on captured
// decode steps: what ends a sequence, or reads its tokens, comes a step late and must change
// nothing. Real ops of the CPU behind a device that claims to compute while the host goes on. What
// it cannot show, as it is done with each call before the next: staging memory written while a copy
// still reads it, and captured work on the addresses of an earlier step. DeterminismTest does, on a
// GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/engine/serving/engine_fixture.h"

namespace comet {
namespace {

const ServingOptions kAhead = {.device = "ahead"};

class AheadTest : public EngineTest {
 protected:
  // One after the other, and all at once ahead of the host.
  void ExpectSameAhead(const std::vector<Request>& requests,
                       const RandomSourceOptions& source_options = {}) {
    Start({}, source_options);
    std::vector<ChoiceOutput> expected;
    for (const Request& request : requests) expected.push_back(Run(request));
    Start(kAhead, source_options);
    std::vector<std::unique_ptr<TokenStream>> streams;
    for (const Request& request : requests) streams.push_back(Submit(request));

    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(i);
      const ChoiceOutput actual = ReadAll(*streams[i])[0];
      EXPECT_EQ(actual.token_ids, expected[i].token_ids);
      EXPECT_EQ(actual.text, expected[i].text);
      EXPECT_EQ(actual.finish_reason, expected[i].finish_reason);
    }
    ASSERT_TRUE(WaitIdle(engine()));
    EXPECT_EQ(engine().stats().num_pages_used, 0);
  }
};

TEST_F(AheadTest, EndOfGenerationEndsAtTheSameToken) {
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(GreedyRequest({1, 10 + i, 20}, 100));
    requests.back().ignore_eos = false;
  }

  ExpectSameAhead(requests, {.eos_weight = 100.0f});
}

TEST_F(AheadTest, LengthEndsAtTheSameToken) {
  std::vector<Request> requests;
  for (int i = 1; i <= 10; ++i) requests.push_back(GreedyRequest({1, 10, 20 + i}, i));

  ExpectSameAhead(requests);
}

TEST_F(AheadTest, PenaltiesReadTheTokenOfTheStepBefore) {
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(GreedyRequest({1, 10, 20 + i}, 30));
    if (i % 2 == 0) requests.back().sampling.frequency_penalty = 2.0f;
  }

  ExpectSameAhead(requests);
}

TEST_F(AheadTest, LogitsThatAreNoNumbersFailOnlyTheirSequence) {
  Start(kAhead, {.nan_token_id = 99});
  const ChoiceOutput alone = Run(GreedyRequest(kPrompt, 8));
  const std::unique_ptr<TokenStream> healthy = Submit(GreedyRequest(kPrompt, 8));
  const std::unique_ptr<TokenStream> sick = Submit(GreedyRequest({1, 10, 99}, 8));

  EXPECT_EQ(ReadAll(*sick)[0].finish_reason, FinishReason::kError);
  EXPECT_EQ(ReadAll(*healthy)[0].token_ids, alone.token_ids);
  EXPECT_EQ(engine().stats().nan_logits_total, 1);
}

TEST(StopEngineTest, ItsPartsStartAgain) {
  const std::unique_ptr<FloatSource> source = MakeRandomSource();
  const EngineConfig config{.scheduler = {.step_tokens_max = 64, .running_sequences_max = 8}};
  const ModelLimits limits{.step_tokens_max = 64,
                           .sequences_max = 8,
                           .logits_rows_max = 8,
                           .pages_per_sequence_max = 4,
                           .num_pages = 64};
  const Precision precision{.weights = WeightMode::kFloat,
                            .activations = ActivationMode::kFloat,
                            .kv_from_checkpoint = false};
  EngineParts parts;
  parts.backend = MakeAheadBackend(MakeBackend({.device = "cpu"}).value());
  parts.model = Model::Load(parts.backend, *source, precision, limits).value();
  parts.tokenizer = Tokenizer::Create(source->vocabulary()).value();

  std::vector<std::vector<int>> outputs;
  for (int run = 0; run < 2; ++run) {
    std::unique_ptr<Engine> engine =
        StartEngine(std::move(parts), limits, config, /*observer=*/nullptr).value();
    outputs.push_back(ReadAll(*engine->Submit(GreedyRequest(kPrompt, 20)).value())[0].token_ids);
    parts = StopEngine(std::move(engine));
  }

  EXPECT_EQ(outputs[0].size(), 20u);
  EXPECT_EQ(outputs[1], outputs[0]);
}

TEST_F(AheadTest, TheNextStepIsIssuedBeforeTheTokensAreTaken) {
  Start(kAhead);
  const std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 200));

  // The first step is held at its end while the second one is on its way.
  stream->Cancel();
  gate().Open();

  const ChoiceOutput output = ReadAll(*stream)[0];
  EXPECT_EQ(output.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(output.token_ids.size(), 1u) << "the second step's is for nobody";
  ASSERT_TRUE(WaitIdle(engine()));
  EXPECT_EQ(engine().stats().steps_total, 2);
  EXPECT_EQ(engine().stats().generation_tokens_total, 1);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

}  // namespace
}  // namespace comet
