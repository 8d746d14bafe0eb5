#pragma once

#include <set>
#include <span>
#include <vector>

#include "engine/config/scheduler_config.h"
#include "engine/kv_cache/page_pool.h"
#include "engine/scheduler/sequence.h"
#include "engine/scheduler/step_plan.h"
#include "kernels/base/status.h"

namespace comet {

// Decides what each step computes, by one rule: {sequence: tokens this step} under a token budget,
// decodes first, then chunks of prompts.
//
// Order. A sequence's rank is its arrival less aging_ms a level of priority. Ranks never change,
// yet waiting ages: after aging_ms of waiting a sequence goes before newcomers one level above it,
// so nobody starves while all levels times aging_ms are less than its deadline, as
// SchedulerConfig::Validate() asks. Both queues are in order of rank.
//
// Pages. A sequence takes the pages of all its tokens when it is admitted and one more whenever a
// decoded token opens one. When none is free, the running sequence of the last rank gives its pages
// up and waits, to be computed anew (preemption by recompute).
//
// Pure bookkeeping: no device, no clock. Borrows the sequences between Enqueue() and Remove().
// Confined to the step thread, but for CheckFits().
class Scheduler {
 public:
  // `config` leaves nothing to the device (SchedulerConfig::ForDevice()).
  Scheduler(const SchedulerConfig& config, PagePool& pages);

  // Whether a sequence that grows to this many tokens fits the pool when it is alone. It must: it
  // would preempt itself for ever. Errors: kInvalidArgument with both sizes. Thread-safe.
  Status CheckFits(int num_tokens_max) const;

  // `sequence` waits from now on; it has at least one token, and CheckFits(num_tokens_max) holds.
  void Enqueue(Sequence& sequence);

  // Sequences whose deadline has passed, running or waiting. Valid until the next call; the caller
  // removes them.
  std::span<Sequence* const> CollectExpired(TimePoint now);

  // Valid until the next call. Empty only when there is no sequence.
  const StepPlan& PlanStep();
  // The plan's tokens are computed. No sequence may be removed between PlanStep() and this.
  void CommitStep();

  // Forgets a sequence that finished, was cancelled or expired, and frees its pages.
  void Remove(Sequence& sequence);

  int num_running() const { return static_cast<int>(running_.size()); }
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  bool is_empty() const { return running_.empty() && waiting_.empty(); }
  int64_t preemptions_total() const { return preemptions_total_; }

 private:
  struct ByRank {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return a->rank != b->rank ? a->rank < b->rank : a->sequence_id < b->sequence_id;
    }
  };

  void PlanDecodes();
  void PlanPrefills();
  void PlanWaiting();
  void PreemptLast();

  const SchedulerConfig config_;
  PagePool& pages_;
  std::vector<Sequence*> running_;  // Ascending ByRank.
  std::set<Sequence*, ByRank> waiting_;
  StepPlan plan_;
  TimePoint next_deadline_ = TimePoint::max();  // No deadline is before it.
  std::vector<Sequence*> expired_;
  int64_t preemptions_total_ = 0;
};

}  // namespace comet
