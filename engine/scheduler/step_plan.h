#pragma once

#include <span>
#include <vector>

#include "engine/scheduler/sequence.h"

namespace comet {

// Tokens [num_computed_tokens, num_computed_tokens + num_tokens) of one sequence, in one step.
struct PlannedSequence {
  Sequence* sequence = nullptr;
  int num_tokens = 0;

  int context_length() const { return sequence->num_computed_tokens + num_tokens; }
  // The step reaches the sequence's last token, so its logits choose the next one.
  bool needs_logits() const { return num_tokens == sequence->num_pending_tokens(); }
};

// What a step will compute: how many tokens of which sequence, within a budget. Confined to the
// step thread.
class StepPlan {
 public:
  StepPlan(int tokens_max, int sequences_max) : tokens_max_(tokens_max) {
    sequences_.reserve(static_cast<size_t>(sequences_max));
  }

  std::span<const PlannedSequence> sequences() const { return sequences_; }
  bool is_empty() const { return sequences_.empty(); }
  int num_tokens() const { return num_tokens_; }
  int num_tokens_left() const { return tokens_max_ - num_tokens_; }
  // Sequences that lost their pages for this plan.
  int num_preempted() const { return num_preempted_; }

 private:
  friend class Scheduler;

  void Clear() {
    sequences_.clear();
    num_tokens_ = 0;
    num_preempted_ = 0;
  }
  void Add(Sequence& sequence, int num_tokens) {
    sequences_.push_back({&sequence, num_tokens});
    num_tokens_ += num_tokens;
  }

  int tokens_max_;
  std::vector<PlannedSequence> sequences_;
  int num_tokens_ = 0;
  int num_preempted_ = 0;
};

}  // namespace comet
