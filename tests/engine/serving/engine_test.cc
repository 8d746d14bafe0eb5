// The real engine over a small real decoder of random weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/serving/serving_fixture.h"

namespace comet {
namespace {

using std::chrono::milliseconds;

const std::vector<int> kPrompt = {1, 10, 20, 30, 40};

// Starts engines; streams live in the tests, which end before the engine.
class EngineTest : public testing::Test {
 protected:
  void Start(ServingOptions options = {}, const RandomSourceOptions& source_options = {}) {
    engine_.reset();
    const std::unique_ptr<FloatSource> source = MakeRandomSource(source_options);
    if (options.observer == nullptr) options.observer = &gate_;
    Result<std::unique_ptr<Engine>> engine = StartServing(*source, options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(engine).value();
  }

  std::unique_ptr<TokenStream> Submit(Request request) {
    Result<std::unique_ptr<TokenStream>> stream = engine_->Submit(std::move(request));
    EXPECT_TRUE(stream.ok()) << stream.status();
    return stream.ok() ? std::move(stream).value() : nullptr;
  }
  Status StatusOfSubmit(Request request) { return engine_->Submit(std::move(request)).status(); }
  ChoiceOutput Run(Request request) {
    const std::unique_ptr<TokenStream> stream = Submit(std::move(request));
    return ReadAll(*stream)[0];
  }
  Engine& engine() { return *engine_; }
  StepGate& gate() { return gate_; }

 private:
  StepGate gate_;
  std::unique_ptr<Engine> engine_;
};

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
  EXPECT_EQ(stats.num_requests_running, 0);
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
  const auto first = std::find(free_running.token_ids.begin(), free_running.token_ids.end(), stop_id);
  Request request = GreedyRequest(kPrompt, 10);
  request.stop_token_ids = {stop_id};

  const ChoiceOutput output = Run(request);

  EXPECT_EQ(output.finish_reason, FinishReason::kStop);
  EXPECT_EQ(output.token_ids, std::vector<int>(free_running.token_ids.begin(), first + 1));
  EXPECT_EQ(output.text,
            engine().tokenizer().Decode(std::vector<int>(free_running.token_ids.begin(), first),
                                        false));
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
  gate().Shut();
  Request request = GreedyRequest(kPrompt, 200);
  request.stop = {text.substr(0, 2)};
  const std::unique_ptr<TokenStream> stream = Submit(request);
  ASSERT_TRUE(gate().WaitUntilHeld());
  gate().Open();

  EXPECT_EQ(ReadAll(*stream)[0].finish_reason, FinishReason::kStop);

  ASSERT_TRUE(WaitIdle(engine()));
  EXPECT_LT(engine().stats().generation_tokens_total, 200);
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

TEST_F(EngineTest, CancelEndsARunningRequestWithinOneStep) {
  Start();
  gate().Shut();
  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 200));
  ASSERT_TRUE(gate().WaitUntilHeld());

  stream->Cancel();
  gate().Open();
  const ChoiceOutput output = ReadAll(*stream)[0];

  EXPECT_EQ(output.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(output.token_ids.size(), 1u) << "only the step that was under way";
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineTest, DestroyingTheStreamEndsItsRequestWithinOneStep) {
  Start();
  gate().Shut();
  std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 200));
  ASSERT_TRUE(gate().WaitUntilHeld());

  stream.reset();
  gate().Open();

  ASSERT_TRUE(WaitIdle(engine()));
  EXPECT_EQ(engine().stats().generation_tokens_total, 1);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineTest, CancelReachesAWaitingRequest) {
  Start({.config = {.scheduler = {.step_tokens_max = 64, .running_sequences_max = 1}}});
  gate().Shut();
  const std::unique_ptr<TokenStream> running = Submit(GreedyRequest(kPrompt, 5));
  ASSERT_TRUE(gate().WaitUntilHeld());
  const std::unique_ptr<TokenStream> waiting = Submit(GreedyRequest(kPrompt, 5));

  waiting->Cancel();
  gate().Open();

  const ChoiceOutput output = ReadAll(*waiting)[0];
  EXPECT_EQ(output.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(output.token_ids.empty());
  EXPECT_EQ(ReadAll(*running)[0].finish_reason, FinishReason::kLength);
}

TEST_F(EngineTest, DeadlineEndsRunningAndWaitingRequests) {
  Start({.config = {.scheduler = {.step_tokens_max = 64, .running_sequences_max = 1}}});
  gate().Shut();
  Request request = GreedyRequest(kPrompt, 200);
  request.deadline_ms = 100;
  const std::unique_ptr<TokenStream> running = Submit(request);
  ASSERT_TRUE(gate().WaitUntilHeld());
  request.deadline_ms = 1;
  const std::unique_ptr<TokenStream> waiting = Submit(request);
  // The gate's holding makes the time pass, whatever the machine's speed.
  std::this_thread::sleep_for(milliseconds(110));
  gate().Open();

  const ChoiceOutput running_output = ReadAll(*running)[0];
  EXPECT_EQ(running_output.finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(running_output.token_ids.size(), 1u);
  EXPECT_EQ(ReadAll(*waiting)[0].finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineTest, ConfiguredDeadlineBoundsARequestsOwn) {
  Start({.config = {.scheduler = {.step_tokens_max = 64,
                                  .running_sequences_max = 1,
                                  .request_deadline_ms = 20}}});
  gate().Shut();
  Request request = GreedyRequest(kPrompt, 200);
  request.deadline_ms = 1'000'000;
  const std::unique_ptr<TokenStream> stream = Submit(request);
  ASSERT_TRUE(gate().WaitUntilHeld());
  std::this_thread::sleep_for(milliseconds(30));
  gate().Open();

  EXPECT_EQ(ReadAll(*stream)[0].finish_reason, FinishReason::kDeadline);
}

TEST_F(EngineTest, NonFiniteLogitsFailOnlyTheirSequence) {
  Start({}, {.nan_token_id = 99});
  gate().Shut();
  const std::unique_ptr<TokenStream> first = Submit(GreedyRequest(kPrompt, 8));
  ASSERT_TRUE(gate().WaitUntilHeld());
  const std::unique_ptr<TokenStream> healthy = Submit(GreedyRequest(kPrompt, 8));
  const std::unique_ptr<TokenStream> sick = Submit(GreedyRequest({1, 10, 99}, 8));
  gate().Open();

  const ChoiceOutput sick_output = ReadAll(*sick)[0];
  const ChoiceOutput healthy_output = ReadAll(*healthy)[0];

  EXPECT_EQ(sick_output.finish_reason, FinishReason::kError);
  EXPECT_EQ(sick_output.status.code(), StatusCode::kInternal);
  EXPECT_TRUE(sick_output.token_ids.empty());
  EXPECT_EQ(healthy_output.finish_reason, FinishReason::kLength);
  EXPECT_EQ(healthy_output.token_ids, ReadAll(*first)[0].token_ids);
  EXPECT_EQ(engine().stats().nan_logits_total, 1);
  EXPECT_TRUE(engine().CheckReady().ok());
}

TEST_F(EngineTest, PagesOfAFailedSequenceDoNotPoisonTheNext) {
  Start({.num_pages = 4}, {.nan_token_id = 99});
  const ChoiceOutput expected = Run(GreedyRequest(kPrompt, 8));
  EXPECT_EQ(Run(GreedyRequest(std::vector<int>(200, 99), 8)).finish_reason, FinishReason::kError);

  const ChoiceOutput output = Run(GreedyRequest(kPrompt, 8));

  EXPECT_EQ(output.token_ids, expected.token_ids);
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
  EXPECT_EQ(message([](Request& r) { r.prompt_ids.assign(300, 1); }),
            "request: the prompt is 300 tokens long, expected fewer than 256, the context of prompt "
            "and output");
  EXPECT_EQ(message([](Request& r) { r.prompt_ids[2] = kRandomVocab; }),
            "request: a token of the prompt is 259, expected 0 to 258");
  EXPECT_EQ(message([](Request& r) { r.num_choices = 17; }),
            "request: num_choices is 17, expected 1 to 16");
  EXPECT_EQ(message([](Request& r) { r.output_tokens_max = -1; }),
            "request: output_tokens_max is -1, expected 0 to 2147483647");
  EXPECT_EQ(message([](Request& r) { r.num_top_logprobs = 21; }),
            "request: num_top_logprobs is 21, expected -1 to 20");
  EXPECT_EQ(message([](Request& r) { r.priority = 101; }),
            "request: priority is 101, expected -100 to 100");
  EXPECT_EQ(message([](Request& r) { r.deadline_ms = -5; }),
            "request: deadline_ms is -5, expected 0 to 2147483647");
  EXPECT_EQ(message([](Request& r) { r.stop = {"a", ""}; }),
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

TEST_F(EngineTest, FullQueueRefusesAndRecovers) {
  Start({.config = {.scheduler = {.step_tokens_max = 64,
                                  .running_sequences_max = 1,
                                  .waiting_sequences_max = 2}}});
  gate().Shut();
  const std::unique_ptr<TokenStream> running = Submit(GreedyRequest(kPrompt, 3));
  ASSERT_TRUE(gate().WaitUntilHeld());
  const std::unique_ptr<TokenStream> second = Submit(GreedyRequest(kPrompt, 3));
  const std::unique_ptr<TokenStream> third = Submit(GreedyRequest(kPrompt, 3));

  const Status status = StatusOfSubmit(GreedyRequest(kPrompt, 3));
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "engine: 2 sequences wait and 1 would join them, expected at most 2");
  EXPECT_EQ(engine().stats().num_requests_waiting, 2);

  gate().Open();
  EXPECT_EQ(ReadAll(*third)[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(Run(GreedyRequest(kPrompt, 3)).finish_reason, FinishReason::kLength);
}

TEST_F(EngineTest, QueueIsBoundedInPromptTokensToo) {
  Start({.config = {.scheduler = {.step_tokens_max = 64,
                                  .running_sequences_max = 1,
                                  .waiting_tokens_max = 12}}});
  gate().Shut();
  const std::unique_ptr<TokenStream> running = Submit(GreedyRequest(kPrompt, 3));
  ASSERT_TRUE(gate().WaitUntilHeld());
  const std::unique_ptr<TokenStream> second = Submit(GreedyRequest(kPrompt, 3));
  const std::unique_ptr<TokenStream> third = Submit(GreedyRequest(kPrompt, 3));

  const Status status = StatusOfSubmit(GreedyRequest(kPrompt, 3));

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "engine: 10 prompt tokens wait and 5 would join them, expected at most 12");
  gate().Open();
}

TEST_F(EngineTest, DrainRefusesNewRequestsAndFinishesOldOnes) {
  Start();
  gate().Shut();
  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 20));
  ASSERT_TRUE(gate().WaitUntilHeld());

  engine().BeginDrain();
  EXPECT_EQ(StatusOfSubmit(GreedyRequest(kPrompt, 3)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(engine().CheckReady().code(), StatusCode::kUnavailable);
  gate().Open();

  EXPECT_TRUE(engine().WaitDrained(milliseconds(300'000)));
  EXPECT_EQ(ReadAll(*stream)[0].token_ids.size(), 20u);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineTest, DrainCancelsWhatIsLeftAtItsEnd) {
  Start();
  gate().Shut();
  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 200));
  ASSERT_TRUE(gate().WaitUntilHeld());
  engine().BeginDrain();

  std::future<bool> is_drained = std::async(
      std::launch::async, [&] { return engine().WaitDrained(milliseconds(0)); });
  // Time for the cancellation to be in place before the step ends; the result is the same if it is not.
  std::this_thread::sleep_for(milliseconds(20));
  gate().Open();

  EXPECT_FALSE(is_drained.get());
  EXPECT_EQ(ReadAll(*stream)[0].finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineTest, ReadinessFailsWhileAStepTakesTooLong) {
  ServingOptions options;
  options.config.stall_ms_max = 200;
  Start(options);
  EXPECT_TRUE(engine().CheckReady().ok());
  gate().Shut();
  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 3));
  ASSERT_TRUE(gate().WaitUntilHeld());

  std::this_thread::sleep_for(milliseconds(250));
  const Status stalled = engine().CheckReady();
  EXPECT_GE(engine().stats().last_step_age, milliseconds(200));
  gate().Open();
  ReadAll(*stream);

  EXPECT_EQ(stalled.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(engine().CheckReady().ok());
  ASSERT_TRUE(WaitIdle(engine()));
}

TEST_F(EngineTest, OnReadyCallsOnceWhenSomethingComes) {
  Start();
  gate().Shut();
  const std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 5));
  ASSERT_TRUE(gate().WaitUntilHeld());
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
  gate().Shut();
  std::unique_ptr<TokenStream> stream = Submit(GreedyRequest(kPrompt, 5));
  ASSERT_TRUE(gate().WaitUntilHeld());
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

TEST_F(EngineTest, PriorityDecidesWhoRunsFirst) {
  Start({.config = {.scheduler = {.step_tokens_max = 64, .running_sequences_max = 1}}});
  gate().Shut();
  const std::unique_ptr<TokenStream> running = Submit(GreedyRequest(kPrompt, 2));
  ASSERT_TRUE(gate().WaitUntilHeld());
  const std::unique_ptr<TokenStream> ordinary = Submit(GreedyRequest(kPrompt, 200));
  Request request = GreedyRequest(kPrompt, 5);
  request.priority = 1;
  const std::unique_ptr<TokenStream> urgent = Submit(request);
  gate().Open();

  ReadAll(*urgent);

  EXPECT_FALSE(ordinary->is_finished());
  ordinary->Cancel();
  ReadAll(*ordinary);
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
