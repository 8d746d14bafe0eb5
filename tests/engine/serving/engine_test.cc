// What a request gives: the real engine over a small real decoder of random weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/engine/serving/engine_fixture.h"

namespace comet {
namespace {

using std::chrono::milliseconds;

TEST_F(EngineTest, StreamsATokenAStepToTheAskedLength) {
  Start();

  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 12));
  const ChoiceOutput output = ReadAll(*stream)[0];

  EXPECT_EQ(output.token_ids.size(), 12u);
  EXPECT_EQ(output.text, engine().tokenizer().Decode(output.token_ids, false));
  EXPECT_EQ(output.finish_reason, FinishReason::kLength);
  EXPECT_TRUE(stream->is_finished());
  EXPECT_EQ(stream->usage().prompt_tokens, 5);
  EXPECT_EQ(stream->usage().completion_tokens, 12);
}

TEST_F(EngineTest, CountsAddUpWithWhatTheReaderSaw) {
  Start();
  const std::unique_ptr<TokenStream> first = Submit(GreedyRequest(kPrompt, 7));
  const std::unique_ptr<TokenStream> second = Submit(GreedyRequest(kPrompt, 3));
  ReadAll(*first);
  ReadAll(*second);

  const EngineStats stats = engine().stats();

  EXPECT_EQ(stats.prompt_tokens_total, 10);
  EXPECT_EQ(stats.generation_tokens_total, 10);
  EXPECT_EQ(stats.num_sequences_running, 0);
  EXPECT_EQ(stats.num_pages_used, 0);
  EXPECT_EQ(stats.num_pages_total, 64);
  EXPECT_GE(stats.steps_total, 7);
}

TEST_F(EngineTest, OutputStopsWhereTheContextIsFull) {
  Start();

  const ChoiceOutput output = Run(GreedyRequest(std::vector<int>(250, 9), 0));

  EXPECT_EQ(output.token_ids.size(), 6u);
  EXPECT_EQ(output.finish_reason, FinishReason::kLength);
}

TEST_F(EngineTest, EndOfGenerationEndsTheOutputWithoutText) {
  Start({}, {.eos_weight = 100.0f});  // Wins as soon as its logit is positive.

  const ChoiceOutput output = Run([] {
    Request request = GreedyRequest(kPrompt, 100);
    request.ignore_eos = false;
    request.with_special_tokens = true;
    return request;
  }());

  ASSERT_EQ(output.finish_reason, FinishReason::kStop);
  EXPECT_EQ(output.token_ids.back(), kEosId);
  EXPECT_EQ(output.text.find("</s>"), std::string::npos);
}

TEST_F(EngineTest, IgnoreEosMakesItAnOrdinaryToken) {
  Start({}, {.eos_weight = 100.0f});

  const ChoiceOutput output = Run(GreedyRequest(kPrompt, 30));

  EXPECT_EQ(output.finish_reason, FinishReason::kLength);
  EXPECT_GT(std::count(output.token_ids.begin(), output.token_ids.end(), kEosId), 0);
}

TEST_F(EngineTest, StopTokenEndsTheOutputWithoutText) {
  Start();
  const ChoiceOutput free_running = Run(GreedyRequest(kPrompt, 10));
  const int stop_id = free_running.token_ids[4];
  const auto first =
      std::find(free_running.token_ids.begin(), free_running.token_ids.end(), stop_id);
  Request request = GreedyRequest(kPrompt, 10);
  request.stop_token_ids = {stop_id};

  const ChoiceOutput output = Run(request);

  EXPECT_EQ(output.finish_reason, FinishReason::kStop);
  EXPECT_EQ(output.token_ids, std::vector<int>(free_running.token_ids.begin(), first + 1));
  EXPECT_EQ(output.text, engine().tokenizer().Decode(
                             std::vector<int>(free_running.token_ids.begin(), first), false));
}

TEST_F(EngineTest, StopTextCutsTheTextAndEndsTheSequence) {
  Start();
  const ChoiceOutput free_running = Run(GreedyRequest(kPrompt, 20));
  const std::string stop = free_running.text.substr(11, 4);  // Across three tokens.
  Request request = GreedyRequest(kPrompt, 200);
  request.stop = {stop};

  const std::unique_ptr<TokenStream> stream = Submit(request);
  const ChoiceOutput output = ReadAll(*stream)[0];

  const size_t found = free_running.text.find(stop);
  EXPECT_EQ(output.finish_reason, FinishReason::kStop);
  EXPECT_EQ(output.text, free_running.text.substr(0, found));
  // The tokens up to the stop's last letter, two letters each.
  const size_t num_tokens = (found + stop.size() + 1) / 2;
  EXPECT_EQ(output.token_ids.size(), num_tokens);
  EXPECT_EQ(stream->usage().completion_tokens, static_cast<int>(num_tokens));
  ASSERT_TRUE(WaitIdle(engine()));
}

TEST_F(EngineTest, StopTextEndsARunningSequenceEarly) {
  Start();
  const std::string text = Run(GreedyRequest(kPrompt, 4)).text;
  Request request = GreedyRequest(kPrompt, 200);
  request.stop = {text.substr(0, 2)};
  const std::unique_ptr<TokenStream> stream = SubmitHeld(request);
  ASSERT_TRUE(gate().AdvanceOneStep());

  const std::optional<OutputDelta> delta = stream->TryNext();
  gate().Open();

  ASSERT_TRUE(delta.has_value());
  EXPECT_EQ(delta->finish_reason, FinishReason::kStop);
  ASSERT_TRUE(WaitIdle(engine()));
  EXPECT_EQ(engine().stats().generation_tokens_total, 4 + 2) << "only the step under way went on";
}

TEST_F(EngineTest, ChoicesOfASeedDifferAndRepeat) {
  Start();
  Request request = GreedyRequest(kPrompt, 10);
  request.sampling.temperature = 1.0f;
  request.sampling.seed = 7;
  request.num_choices = 3;

  const std::unique_ptr<TokenStream> stream = Submit(request);
  const std::vector<ChoiceOutput> first = ReadAll(*stream, 3);
  const std::vector<ChoiceOutput> second = ReadAll(*Submit(request), 3);

  EXPECT_NE(first[0].token_ids, first[1].token_ids);
  EXPECT_NE(first[1].token_ids, first[2].token_ids);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(first[i].token_ids, second[i].token_ids);
  EXPECT_EQ(stream->usage().prompt_tokens, 5);
  EXPECT_EQ(stream->usage().completion_tokens, 30);
}

TEST_F(EngineTest, RequestsWithoutASeedDiffer) {
  Start();
  Request request = GreedyRequest(kPrompt, 20);
  request.sampling.temperature = 1.0f;

  EXPECT_NE(Run(request).token_ids, Run(request).token_ids);
}

TEST_F(EngineTest, GivesLogprobsOnlyWhenAsked) {
  Start();
  Request request = GreedyRequest(kPrompt, 5);
  EXPECT_TRUE(Run(request).logprobs.empty());

  request.num_top_logprobs = 3;
  const ChoiceOutput output = Run(request);

  ASSERT_EQ(output.logprobs.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    const TokenLogprob& logprob = output.logprobs[i];
    EXPECT_EQ(logprob.token_id, output.token_ids[i]);
    ASSERT_EQ(logprob.top.size(), 3u);
    EXPECT_EQ(logprob.top[0].first, logprob.token_id) << "greedy takes the likeliest";
    EXPECT_EQ(logprob.top[0].second, logprob.logprob);
    EXPECT_GE(logprob.top[0].second, logprob.top[1].second);
    EXPECT_GE(logprob.top[1].second, logprob.top[2].second);
    EXPECT_LE(logprob.logprob, 0.0f);
  }
}

TEST_F(EngineTest, LogitBiasAndPenaltiesReachTheSampler) {
  Start();
  Request forced = GreedyRequest(kPrompt, 3);
  forced.sampling.logit_bias = {{77, 100.0f}};
  EXPECT_EQ(Run(forced).token_ids, (std::vector<int>{77, 77, 77}));

  forced.sampling.repetition_penalty = 10.0f;
  forced.sampling.logit_bias = {{77, 100.0f}, {78, 50.0f}};
  EXPECT_EQ(Run(forced).token_ids, (std::vector<int>{77, 78, 77}));
}

TEST_F(EngineTest, RefusesWhatIsWrongNamingIt) {
  Start();
  const auto message = [&](auto change) {
    Request request = GreedyRequest(kPrompt, 4);
    change(request);
    const Status status = StatusOfSubmit(request);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.message();
  };

  EXPECT_EQ(message([](Request& r) { r.prompt_ids.clear(); }),
            "request: the prompt is empty, expected at least one token");
  EXPECT_EQ(
      message([](Request& r) { r.prompt_ids.assign(300, 1); }),
      "request: the prompt is 300 tokens long, expected fewer than 256, the context of prompt "
      "and output");
  EXPECT_EQ(message([](Request& r) { r.prompt_ids[2] = kLetterPairVocab; }),
            "request: a token of the prompt is 259, expected 0 to 258");
  EXPECT_EQ(message([](Request& r) { r.num_choices = 17; }),
            "request: num_choices is 17, expected 1 to 16");
  EXPECT_EQ(message([](Request& r) { r.output_tokens_max = -1; }),
            "request: output_tokens_max is -1, expected 0 to 2147483647");
  EXPECT_EQ(message([](Request& r) { r.num_top_logprobs = 21; }),
            "request: num_top_logprobs is 21, expected -1 to 20");
  EXPECT_EQ(message([](Request& r) { r.priority = 11; }),
            "request: priority is 11, expected -10 to 10");
  EXPECT_EQ(message([](Request& r) { r.deadline_ms = -5; }),
            "request: deadline_ms is -5, expected 0 to 2147483647");
  EXPECT_EQ(message([](Request& r) {
              r.stop = {"a", ""};
            }),
            "request: the number of bytes of a stop text is 0, expected 1 to 1024");
  EXPECT_EQ(message([](Request& r) { r.stop.assign(17, "a"); }),
            "request: stop has 17 texts, expected at most 16");
  EXPECT_EQ(message([](Request& r) { r.stop_token_ids = {-1}; }),
            "request: a token of stop_token_ids is -1, expected 0 to 258");
  EXPECT_EQ(message([](Request& r) { r.stop_token_ids.assign(129, 1); }),
            "request: stop_token_ids has 129 tokens, expected at most 128");
  EXPECT_EQ(message([](Request& r) { r.sampling.top_p = 2.0f; }),
            "sampling: top_p is 2, expected above 0, to 1");
}

TEST_F(EngineTest, OnReadyCallsOnceWhenSomethingComes) {
  Start();
  const std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 5));
  std::promise<void> called;

  stream->OnReady([&] { called.set_value(); });  // A second call would throw.
  gate().Open();

  ASSERT_EQ(called.get_future().wait_for(std::chrono::minutes(5)), std::future_status::ready);
  EXPECT_TRUE(stream->TryNext().has_value());
  ReadAll(*stream);
}

TEST_F(EngineTest, OnReadyCallsAtOnceWhenSomethingIsThere) {
  Start();
  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 2));
  ASSERT_TRUE(engine().WaitDrained(milliseconds(300'000)));
  int num_calls = 0;

  stream->OnReady([&] { ++num_calls; });

  EXPECT_EQ(num_calls, 1);
}

TEST_F(EngineTest, NoCallbackRunsOnceTheStreamIsGone) {
  Start();
  std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 5));
  bool is_called = false;
  stream->OnReady([&] { is_called = true; });

  stream.reset();
  gate().Open();

  ASSERT_TRUE(WaitIdle(engine()));
  EXPECT_FALSE(is_called);
}

TEST_F(EngineTest, IsFinishedOnlyAfterTheLastDeltaIsRead) {
  Start();
  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 3));
  ASSERT_TRUE(engine().WaitDrained(milliseconds(300'000)));
  EXPECT_FALSE(stream->is_finished());

  const std::optional<OutputDelta> delta = stream->TryNext();

  ASSERT_TRUE(delta.has_value());
  EXPECT_EQ(delta->token_ids.size(), 3u) << "what has come is one delta";
  EXPECT_TRUE(stream->is_finished());
  EXPECT_FALSE(stream->TryNext().has_value());
}

TEST_F(EngineTest, ServesTheContextThatThePoolCanHold) {
  Start({.num_pages = 2});
  EXPECT_EQ(engine().config().context_length_max, 128);

  const ChoiceOutput output = Run(GreedyRequest(std::vector<int>(100, 9), 0));

  EXPECT_EQ(output.token_ids.size(), 28u);
}

TEST(StartEngine, RefusesAConfigurationBeyondTheModelsLimits) {
  const std::unique_ptr<FloatSource> source = MakeRandomSource();
  ServingOptions options;
  options.num_pages = 2;
  options.config.context_length_max = 256;

  const Status status = StartServing(*source, options).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "engine.context_length_max is 256, expected 0 to 128");
}

}  // namespace
}  // namespace comet
