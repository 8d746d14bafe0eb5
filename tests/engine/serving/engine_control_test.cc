// How requests end before their end, wait, are refused, and what the engine says of itself.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "tests/engine/serving/engine_fixture.h"

namespace comet {
namespace {

using std::chrono::milliseconds;

using EngineControlTest = EngineTest;

TEST_F(EngineControlTest, CancelEndsARunningRequestWithinOneStep) {
  Start();
  const std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 200));

  stream->Cancel();
  gate().Open();
  const ChoiceOutput output = ReadAll(*stream)[0];

  EXPECT_EQ(output.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(output.token_ids.size(), 1u) << "only the step that was under way";
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineControlTest, DestroyingTheStreamEndsItsRequestWithinOneStep) {
  Start();
  std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 200));

  stream.reset();
  gate().Open();

  ASSERT_TRUE(WaitIdle(engine()));
  EXPECT_EQ(engine().stats().generation_tokens_total, 1);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineControlTest, CancelReachesAWaitingRequest) {
  Start(OneAtATime());
  const std::unique_ptr<TokenStream> running = SubmitHeld(GreedyRequest(kPrompt, 5));
  const std::unique_ptr<TokenStream> waiting = Submit(GreedyRequest(kPrompt, 5));

  waiting->Cancel();
  gate().Open();

  const ChoiceOutput output = ReadAll(*waiting)[0];
  EXPECT_EQ(output.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(output.token_ids.empty());
  EXPECT_EQ(ReadAll(*running)[0].finish_reason, FinishReason::kLength);
}

TEST_F(EngineControlTest, DeadlineEndsRunningAndWaitingRequests) {
  Start(OneAtATime());
  Request request = GreedyRequest(kPrompt, 200);
  request.deadline_ms = 100;
  const std::unique_ptr<TokenStream> running = SubmitHeld(request);
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

TEST_F(EngineControlTest, ConfiguredDeadlineBoundsARequestsOwn) {
  Start(OneAtATime({.request_deadline_ms = 21, .aging_ms = 1}));
  Request request = GreedyRequest(kPrompt, 200);
  request.deadline_ms = 1'000'000;
  const std::unique_ptr<TokenStream> stream = SubmitHeld(request);
  std::this_thread::sleep_for(milliseconds(30));
  gate().Open();

  EXPECT_EQ(ReadAll(*stream)[0].finish_reason, FinishReason::kDeadline);
}

TEST_F(EngineControlTest, NonFiniteLogitsFailOnlyTheirSequence) {
  Start({}, {.nan_token_id = 99});
  const std::unique_ptr<TokenStream> first = SubmitHeld(GreedyRequest(kPrompt, 8));
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

TEST_F(EngineControlTest, PagesOfAFailedSequenceDoNotPoisonTheNext) {
  Start({.num_pages = 4}, {.nan_token_id = 99});
  const ChoiceOutput expected = Run(GreedyRequest(kPrompt, 8));
  EXPECT_EQ(Run(GreedyRequest(std::vector<int>(200, 99), 8)).finish_reason, FinishReason::kError);

  const ChoiceOutput output = Run(GreedyRequest(kPrompt, 8));

  EXPECT_EQ(output.token_ids, expected.token_ids);
}

TEST_F(EngineControlTest, FullQueueRefusesAndRecovers) {
  Start(OneAtATime({.waiting_sequences_max = 2}));
  const std::unique_ptr<TokenStream> running = SubmitHeld(GreedyRequest(kPrompt, 3));
  const std::unique_ptr<TokenStream> second = Submit(GreedyRequest(kPrompt, 3));
  const std::unique_ptr<TokenStream> third = Submit(GreedyRequest(kPrompt, 3));

  const Status status = StatusOfSubmit(GreedyRequest(kPrompt, 3));
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "engine: 2 sequences wait and 1 would join them, expected at most 2");
  EXPECT_EQ(engine().stats().num_sequences_waiting, 2);

  gate().Open();
  EXPECT_EQ(ReadAll(*third)[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(Run(GreedyRequest(kPrompt, 3)).finish_reason, FinishReason::kLength);
}

TEST_F(EngineControlTest, RefusesMoreChoicesThanTheQueueHolds) {
  Start(OneAtATime({.waiting_sequences_max = 2}));
  Request request = GreedyRequest(kPrompt, 3);

  request.num_choices = 3;
  EXPECT_EQ(StatusOfSubmit(request).code(), StatusCode::kInvalidArgument);

  request.num_choices = 2;
  EXPECT_EQ(ReadAll(*Submit(request), 2)[1].finish_reason, FinishReason::kLength);
}

TEST_F(EngineControlTest, QueueIsBoundedInPromptTokensToo) {
  Start(OneAtATime({.waiting_tokens_max = 12}));
  const std::unique_ptr<TokenStream> running = SubmitHeld(GreedyRequest(kPrompt, 3));
  const std::unique_ptr<TokenStream> second = Submit(GreedyRequest(kPrompt, 3));
  const std::unique_ptr<TokenStream> third = Submit(GreedyRequest(kPrompt, 3));

  const Status status = StatusOfSubmit(GreedyRequest(kPrompt, 3));

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "engine: 10 prompt tokens wait and 5 would join them, expected at most 12");
  gate().Open();
}

TEST_F(EngineControlTest, DrainRefusesNewRequestsAndFinishesOldOnes) {
  Start();
  const std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 20));

  engine().BeginDrain();
  EXPECT_EQ(StatusOfSubmit(GreedyRequest(kPrompt, 3)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(engine().CheckReady().code(), StatusCode::kUnavailable);
  gate().Open();

  EXPECT_TRUE(engine().WaitDrained(milliseconds(300'000)));
  EXPECT_EQ(ReadAll(*stream)[0].token_ids.size(), 20u);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineControlTest, DrainCancelsWhatIsLeftAtItsEnd) {
  Start();
  const std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 200));
  engine().BeginDrain();

  std::future<bool> is_drained =
      std::async(std::launch::async, [&] { return engine().WaitDrained(milliseconds(0)); });
  // Time for the cancellation to be in place before the step ends; the result is the same if it is
  // not.
  std::this_thread::sleep_for(milliseconds(20));
  gate().Open();

  EXPECT_FALSE(is_drained.get());
  EXPECT_EQ(ReadAll(*stream)[0].finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(engine().stats().num_pages_used, 0);
}

TEST_F(EngineControlTest, ReadinessFailsWhileAStepTakesTooLong) {
  ServingOptions options;
  options.config.stall_ms_max = 200;
  Start(options);
  EXPECT_TRUE(engine().CheckReady().ok());
  const std::unique_ptr<TokenStream> stream = SubmitHeld(GreedyRequest(kPrompt, 3));

  std::this_thread::sleep_for(milliseconds(250));
  const Status stalled = engine().CheckReady();
  EXPECT_GE(engine().stats().last_step_age, milliseconds(200));
  gate().Open();
  ReadAll(*stream);

  EXPECT_EQ(stalled.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(engine().CheckReady().ok());
  ASSERT_TRUE(WaitIdle(engine()));
}

TEST_F(EngineControlTest, PriorityDecidesWhoRunsFirst) {
  Start(OneAtATime());
  const std::unique_ptr<TokenStream> running = SubmitHeld(GreedyRequest(kPrompt, 1));
  const std::unique_ptr<TokenStream> ordinary = Submit(GreedyRequest(kPrompt, 200));
  Request request = GreedyRequest(kPrompt, 5);
  request.priority = 1;
  const std::unique_ptr<TokenStream> urgent = Submit(request);

  // A step's tokens are there when the next one is held.
  ASSERT_TRUE(gate().AdvanceOneStep());
  ASSERT_TRUE(gate().AdvanceOneStep());

  EXPECT_TRUE(urgent->TryNext().has_value());
  EXPECT_FALSE(ordinary->TryNext().has_value());
  gate().Open();
}

}  // namespace
}  // namespace comet
