#include "engine/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <vector>

namespace comet {
namespace {

using std::chrono::milliseconds;

TimePoint At(int ms) { return TimePoint() + milliseconds(ms); }

struct SequenceSpec {
  int id = 0;
  int num_tokens = 1;
  int num_tokens_max = 64;
  int priority = 0;
  int arrival_ms = 0;
  int deadline_ms = -1;  // -1: none.
};

// A scheduler over its pool, the sequences it borrows, and the part of the engine that gives each
// sequence a token when a step has reached its end.
class SchedulerTest : public testing::Test {
 protected:
  void Start(int num_pages, const SchedulerConfig& config = {}) {
    pages_.emplace_back(PagePoolOptions{.num_pages = num_pages, .page_tokens = 16});
    schedulers_.emplace_back(config.ForDevice(/*is_host=*/true), pages_.back());
  }
  PagePool& pages() { return pages_.back(); }
  Scheduler& scheduler() { return schedulers_.back(); }

  Sequence& Enqueue(const SequenceSpec& spec) {
    Sequence& sequence = sequences_.emplace_back();
    sequence.sequence_id = spec.id;
    sequence.priority = spec.priority;
    sequence.arrival = At(spec.arrival_ms);
    if (spec.deadline_ms >= 0) sequence.deadline = At(spec.deadline_ms);
    sequence.num_tokens_max = spec.num_tokens_max;
    sequence.token_ids.assign(static_cast<size_t>(spec.num_tokens), 7);
    scheduler().Enqueue(sequence);
    return sequence;
  }

  // Plans a step, computes it, and samples.
  std::vector<int> RunStep() {
    const StepPlan& plan = scheduler().PlanStep();
    std::vector<int> ids = PlannedIds(plan);
    std::vector<Sequence*> sampled;
    for (const PlannedSequence& planned : plan.sequences()) {
      if (planned.needs_logits()) sampled.push_back(planned.sequence);
    }
    scheduler().CommitStep();
    for (Sequence* sequence : sampled) sequence->token_ids.push_back(7);
    return ids;
  }

  static std::vector<int> PlannedIds(const StepPlan& plan) {
    std::vector<int> ids;
    for (const PlannedSequence& planned : plan.sequences()) {
      ids.push_back(static_cast<int>(planned.sequence->sequence_id));
    }
    return ids;
  }
  static std::vector<int> PlannedTokens(const StepPlan& plan) {
    std::vector<int> num_tokens;
    for (const PlannedSequence& planned : plan.sequences()) {
      num_tokens.push_back(planned.num_tokens);
    }
    return num_tokens;
  }

 private:
  std::deque<PagePool> pages_;
  std::deque<Scheduler> schedulers_;
  std::deque<Sequence> sequences_;
};

using Ids = std::vector<int>;

TEST_F(SchedulerTest, PlansNothingWithoutSequences) {
  Start(4);

  EXPECT_TRUE(scheduler().PlanStep().is_empty());
}

TEST_F(SchedulerTest, CutsAPromptIntoChunksOfTheBudget) {
  Start(8, {.step_tokens_max = 20, .running_sequences_max = 4});
  Enqueue({.id = 1, .num_tokens = 45});

  EXPECT_EQ(PlannedTokens(scheduler().PlanStep()), Ids{20});
  scheduler().CommitStep();
  EXPECT_EQ(PlannedTokens(scheduler().PlanStep()), Ids{20});
  scheduler().CommitStep();
  const StepPlan& last = scheduler().PlanStep();
  EXPECT_EQ(PlannedTokens(last), Ids{5});
  EXPECT_TRUE(last.sequences()[0].needs_logits());
}

TEST_F(SchedulerTest, CutsNoLoneTokenOffAPrompt) {
  Start(8, {.step_tokens_max = 20, .running_sequences_max = 4});
  Enqueue({.id = 1, .num_tokens = 41, .arrival_ms = 0});
  Enqueue({.id = 2, .num_tokens = 30, .arrival_ms = 1});
  std::vector<Ids> steps;
  for (int i = 0; i < 4; ++i) {
    steps.push_back(PlannedTokens(scheduler().PlanStep()));
    scheduler().CommitStep();
  }

  // Twenty would leave one; one is left of the second step's budget, and nobody takes it.
  EXPECT_EQ(steps, (std::vector<Ids>{{20}, {19}, {2, 18}, {12}}));
}

TEST_F(SchedulerTest, WantsLogitsOnlyAtTheEndOfThePrompt) {
  Start(8, {.step_tokens_max = 20, .running_sequences_max = 4});
  Enqueue({.id = 1, .num_tokens = 45});

  EXPECT_FALSE(scheduler().PlanStep().sequences()[0].needs_logits());
}

TEST_F(SchedulerTest, PlansDecodesBeforePrompts) {
  Start(16, {.step_tokens_max = 10, .running_sequences_max = 4});
  Enqueue({.id = 1, .num_tokens = 40, .arrival_ms = 0});
  Enqueue({.id = 2, .num_tokens = 3, .arrival_ms = 1});
  for (int i = 0; i < 4; ++i) RunStep();  // The first prompt takes four steps alone.
  RunStep();                              // The second's, beside the first's decode.
  Enqueue({.id = 3, .num_tokens = 30, .arrival_ms = 2});

  const StepPlan& plan = scheduler().PlanStep();

  EXPECT_EQ(PlannedIds(plan), (Ids{1, 2, 3}));
  EXPECT_EQ(PlannedTokens(plan), (Ids{1, 1, 8}));
}

TEST_F(SchedulerTest, AdmitsInOrderOfArrival) {
  Start(16);
  Enqueue({.id = 1, .arrival_ms = 5});
  Enqueue({.id = 2, .arrival_ms = 3});
  Enqueue({.id = 3, .arrival_ms = 4});

  EXPECT_EQ(PlannedIds(scheduler().PlanStep()), (Ids{2, 3, 1}));
}

TEST_F(SchedulerTest, AdmitsHigherPriorityFirst) {
  Start(16, {.step_tokens_max = 8, .running_sequences_max = 1});
  Enqueue({.id = 1, .priority = 0, .arrival_ms = 0});
  Enqueue({.id = 2, .priority = 1, .arrival_ms = 5});

  EXPECT_EQ(PlannedIds(scheduler().PlanStep()), Ids{2});
}

TEST_F(SchedulerTest, WaitingLongEnoughBeatsPriority) {
  Start(16, {.step_tokens_max = 8, .running_sequences_max = 1, .aging_ms = 100});
  Enqueue({.id = 1, .priority = 0, .arrival_ms = 0});
  Enqueue({.id = 2, .priority = 1, .arrival_ms = 101});

  EXPECT_EQ(PlannedIds(scheduler().PlanStep()), Ids{1});
}

TEST_F(SchedulerTest, RunsNoMoreSequencesThanConfigured) {
  Start(16, {.step_tokens_max = 8, .running_sequences_max = 2});
  for (int id = 1; id <= 3; ++id) Enqueue({.id = id, .arrival_ms = id});

  RunStep();

  EXPECT_EQ(scheduler().num_running(), 2);
  EXPECT_EQ(scheduler().num_waiting(), 1);
}

TEST_F(SchedulerTest, PreemptsYoungestWhenPagesRunOut) {
  Start(4);
  Enqueue({.id = 1, .num_tokens = 32, .arrival_ms = 0});
  Enqueue({.id = 2, .num_tokens = 16, .arrival_ms = 1});
  RunStep();  // Three pages, all full; one is spare.
  Enqueue({.id = 3, .num_tokens = 16, .arrival_ms = 2});

  EXPECT_EQ(RunStep(), (Ids{1}));

  EXPECT_EQ(scheduler().num_waiting(), 2);
  EXPECT_EQ(scheduler().preemptions_total(), 1);
}

TEST_F(SchedulerTest, PreemptsLowestPriorityFirst) {
  Start(5);
  Enqueue({.id = 1, .num_tokens = 16, .priority = 0, .arrival_ms = 0});
  Enqueue({.id = 2, .num_tokens = 32, .priority = 1, .arrival_ms = 1});
  RunStep();
  RunStep();  // Both open a page: all five are taken.
  for (int i = 0; i < 16; ++i) RunStep();

  EXPECT_EQ(scheduler().num_running(), 1);
  EXPECT_EQ(PlannedIds(scheduler().PlanStep()), Ids{2});
}

TEST_F(SchedulerTest, PreemptedSequenceIsComputedAnew) {
  Start(4);
  Enqueue({.id = 1, .num_tokens = 32, .arrival_ms = 0});
  Sequence& second = Enqueue({.id = 2, .num_tokens = 16, .arrival_ms = 1});
  RunStep();
  RunStep();
  ASSERT_EQ(second.num_preemptions, 1);

  EXPECT_EQ(second.num_computed_tokens, 0);
  EXPECT_EQ(second.num_tokens(), 17);
  EXPECT_EQ(second.page_table.num_pages(), 0);
}

TEST_F(SchedulerTest, AdmitsNobodyInAStepThatPreempts) {
  Start(6);
  Enqueue({.id = 1, .num_tokens = 32, .arrival_ms = 0});
  Enqueue({.id = 2, .num_tokens = 48, .arrival_ms = 1});
  RunStep();  // Five pages, all full.
  Enqueue({.id = 3, .num_tokens = 1, .priority = 5, .arrival_ms = 2});

  EXPECT_EQ(RunStep(), Ids{1});  // The second gives up three pages.
  EXPECT_EQ(RunStep(), (Ids{1, 3}));
}

TEST_F(SchedulerTest, AdmissionLeavesAPageForThoseThatRun) {
  Start(4);
  Enqueue({.id = 1, .num_tokens = 20, .arrival_ms = 0});
  RunStep();
  Enqueue({.id = 2, .num_tokens = 32, .arrival_ms = 1});

  EXPECT_EQ(RunStep(), Ids{1});
}

TEST_F(SchedulerTest, AloneASequenceMayTakeEveryPage) {
  Start(4);
  Enqueue({.id = 1, .num_tokens = 60});

  EXPECT_EQ(RunStep(), Ids{1});
}

TEST_F(SchedulerTest, SmallSequencesDoNotOvertakeALargeOne) {
  Start(8);
  Enqueue({.id = 1, .num_tokens = 64, .num_tokens_max = 100, .arrival_ms = 0});
  RunStep();
  Enqueue({.id = 2, .num_tokens = 80, .num_tokens_max = 100, .arrival_ms = 1});
  Enqueue({.id = 3, .num_tokens = 1, .arrival_ms = 2});

  EXPECT_EQ(RunStep(), Ids{1});
}

TEST_F(SchedulerTest, RefusesASequenceLargerThanThePool) {
  Start(4);

  const Status status = scheduler().CheckFits(65);

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("65 tokens needs 5"), std::string::npos) << status;
  EXPECT_TRUE(scheduler().CheckFits(64).ok());
}

TEST_F(SchedulerTest, RemovingARunningSequenceFreesItsPages) {
  Start(4);
  Sequence& sequence = Enqueue({.id = 1, .num_tokens = 40});
  RunStep();
  ASSERT_EQ(pages().num_used(), 3);

  scheduler().Remove(sequence);

  EXPECT_EQ(pages().num_used(), 0);
  EXPECT_TRUE(scheduler().is_empty());
}

TEST_F(SchedulerTest, RemovesAWaitingSequence) {
  Start(4, {.step_tokens_max = 8, .running_sequences_max = 1});
  Enqueue({.id = 1, .arrival_ms = 0});
  Sequence& waiting = Enqueue({.id = 2, .arrival_ms = 1});
  RunStep();

  scheduler().Remove(waiting);

  EXPECT_EQ(scheduler().num_waiting(), 0);
}

TEST_F(SchedulerTest, DeadlineReachesRunningAndWaiting) {
  Start(4, {.step_tokens_max = 8, .running_sequences_max = 1});
  Sequence& running = Enqueue({.id = 1, .arrival_ms = 0, .deadline_ms = 50});
  Sequence& waiting = Enqueue({.id = 2, .arrival_ms = 1, .deadline_ms = 40});
  Enqueue({.id = 3, .arrival_ms = 2, .deadline_ms = 60});
  RunStep();
  EXPECT_TRUE(scheduler().CollectExpired(At(39)).empty());

  const std::span<Sequence* const> expired = scheduler().CollectExpired(At(50));

  EXPECT_EQ(std::vector<Sequence*>(expired.begin(), expired.end()),
            (std::vector<Sequence*>{&running, &waiting}));
}

TEST_F(SchedulerTest, LaterDeadlinesAreFoundAfterEarlierOnes) {
  Start(4);
  Sequence& first = Enqueue({.id = 1, .deadline_ms = 10});
  Sequence& second = Enqueue({.id = 2, .deadline_ms = 20});
  ASSERT_EQ(scheduler().CollectExpired(At(10)).size(), 1u);
  scheduler().Remove(first);

  const std::span<Sequence* const> expired = scheduler().CollectExpired(At(20));

  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0], &second);
}

}  // namespace
}  // namespace comet
