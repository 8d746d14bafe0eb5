#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <cstddef>

#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// An admission leaves one page free for this many running sequences. A sequence opens a page every
// kPageTokens steps, so the running ones go on for a quarter of that before one is preempted;
// without it a full pool preempts, and computes a prompt anew, within a few steps of every
// admission.
constexpr int kSequencesPerSparePage = 4;

// Tokens of a prompt's next chunk; 0: it waits for more room. No chunk is one token of several: a
// device may compute a sequence's lone token as it decodes, in another order of additions than a
// chunk's, and where a prompt is cut must not show in its logits. A budget below three leaves no
// such choice.
int ChunkTokens(int num_pending, int num_left, int step_tokens_max) {
  constexpr int kBudgetMin = 3;
  int num_tokens = std::min(num_pending, num_left);
  if (step_tokens_max < kBudgetMin) return num_tokens;
  if (num_pending - num_tokens == 1) --num_tokens;
  return num_tokens == 1 && num_pending > 1 ? 0 : num_tokens;
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config, PagePool& pages)
    : config_(config), pages_(pages), plan_(config.step_tokens_max, config.running_sequences_max) {
  COMET_CHECK(config.Validate().ok());
  COMET_CHECK(config.step_tokens_max > 0 && config.running_sequences_max > 0);
  running_.reserve(static_cast<size_t>(config.running_sequences_max));
}

Status Scheduler::CheckFits(int num_tokens_max) const {
  const int num_pages = pages_.PagesFor(num_tokens_max);
  if (num_pages <= pages_.num_pages()) return Status::Ok();
  return InvalidArgument(StrCat("scheduler: a sequence of ", num_tokens_max, " tokens needs ",
                                num_pages, " KV-cache pages, expected at most ", pages_.num_pages(),
                                ", all there are"));
}

void Scheduler::Enqueue(Sequence& sequence) {
  COMET_CHECK(sequence.num_tokens() > 0 && sequence.num_computed_tokens == 0);
  COMET_CHECK(sequence.num_tokens() <= sequence.num_tokens_max);
  COMET_CHECK(CheckFits(sequence.num_tokens_max).ok());
  sequence.rank = sequence.arrival.time_since_epoch() -
                  std::chrono::milliseconds(config_.aging_ms) * sequence.priority;
  sequence.is_running = false;
  next_deadline_ = std::min(next_deadline_, sequence.deadline);
  waiting_.insert(&sequence);
}

std::span<Sequence* const> Scheduler::CollectExpired(TimePoint now) {
  expired_.clear();
  if (now < next_deadline_) return expired_;
  next_deadline_ = TimePoint::max();
  const auto examine = [&](Sequence* sequence) {
    if (sequence->deadline <= now) {
      expired_.push_back(sequence);
    } else {
      next_deadline_ = std::min(next_deadline_, sequence->deadline);
    }
  };
  for (Sequence* sequence : running_) examine(sequence);
  for (Sequence* sequence : waiting_) examine(sequence);
  return expired_;
}

// Running sequences come first: they hold memory and free it by finishing.
const StepPlan& Scheduler::PlanStep() {
  plan_.Clear();
  PlanDecodes();
  PlanPrefills();
  // Admitting right after a preemption would evict again at the next step.
  if (plan_.num_preempted() == 0) PlanWaiting();
  COMET_CHECK(plan_.num_tokens_left() >= 0);
  COMET_CHECK(!plan_.is_empty() || is_empty());
  return plan_;
}

// In order of rank. When pages run out the last in rank is preempted, so the first always advances:
// it fits alone. Victims come from the end of running_, which planning has not reached. The budget
// holds a decode of every running sequence (SchedulerConfig::Validate()).
void Scheduler::PlanDecodes() {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (!sequence.is_decoding()) continue;
    while (!pages_.TryGrow(sequence.page_table, sequence.num_tokens())) {
      const bool preempts_itself = i + 1 == running_.size();
      PreemptLast();
      if (preempts_itself) return;
    }
    plan_.Add(sequence, 1);
  }
}

// Their pages were taken at admission.
void Scheduler::PlanPrefills() {
  for (Sequence* sequence : running_) {
    if (plan_.num_tokens_left() == 0) return;
    if (sequence->is_decoding()) continue;
    const int num_tokens = ChunkTokens(sequence->num_pending_tokens(), plan_.num_tokens_left(),
                                       config_.step_tokens_max);
    if (num_tokens > 0) plan_.Add(*sequence, num_tokens);
  }
}

// Stops at the first that does not fit: letting smaller ones pass would starve it.
void Scheduler::PlanWaiting() {
  while (!waiting_.empty() && num_running() < config_.running_sequences_max &&
         plan_.num_tokens_left() > 0) {
    Sequence& sequence = **waiting_.begin();
    const int num_tokens = ChunkTokens(sequence.num_pending_tokens(), plan_.num_tokens_left(),
                                       config_.step_tokens_max);
    if (num_tokens == 0) return;
    const int num_spare = CeilDiv(num_running(), kSequencesPerSparePage);
    if (pages_.PagesFor(sequence.num_tokens()) + num_spare > pages_.num_free()) return;
    COMET_CHECK(pages_.TryGrow(sequence.page_table, sequence.num_tokens()));
    waiting_.erase(waiting_.begin());
    running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, ByRank()),
                    &sequence);
    sequence.is_running = true;
    plan_.Add(sequence, num_tokens);
  }
}

void Scheduler::PreemptLast() {
  Sequence& sequence = *running_.back();
  running_.pop_back();
  pages_.ReleaseAll(sequence.page_table);
  sequence.is_running = false;
  sequence.num_computed_tokens = 0;
  ++sequence.num_preemptions;
  waiting_.insert(&sequence);
  ++plan_.num_preempted_;
  ++preemptions_total_;
}

void Scheduler::CommitStep() {
  for (const PlannedSequence& planned : plan_.sequences()) {
    planned.sequence->num_computed_tokens += planned.num_tokens;
  }
  plan_.Clear();
}

void Scheduler::Remove(Sequence& sequence) {
  if (sequence.is_running) {
    const auto position = std::lower_bound(running_.begin(), running_.end(), &sequence, ByRank());
    COMET_CHECK(position != running_.end() && *position == &sequence);
    running_.erase(position);
    sequence.is_running = false;
  } else {
    COMET_CHECK(waiting_.erase(&sequence) == 1);
  }
  pages_.ReleaseAll(sequence.page_table);
}

}  // namespace comet
