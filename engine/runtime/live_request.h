#pragma once

#include <memory>
#include <vector>

#include "engine/runtime/engine_exchange.h"
#include "engine/sampling/sequence_sampling.h"
#include "engine/scheduler/sequence.h"

namespace comet {

struct LiveRequest;

// One choice of a request in flight.
struct LiveSequence {
  LiveRequest& request;
  int choice_idx;
  SequenceSampling sampling;
  Sequence sequence;          // Lent to the scheduler, so its address must not change.
  bool has_started = false;   // Planned at least once: left the waiting queue for good.
  bool is_scheduled = true;   // False once only its last token, on its way, is missing.
  TimePoint last_token_time;  // Once it has output.

  int num_output_tokens() const;
};

// A request in flight and its choices. Confined to the step thread, but for the channel.
struct LiveRequest {
  // The step thread reads all of it but the prompt, which the sequences hold.
  explicit LiveRequest(Submission from);

  Submission submission;
  int num_prompt_tokens;
  std::vector<std::unique_ptr<LiveSequence>> choices;  // A finished one is null.
  int num_unfinished;
  bool has_started = false;  // One of its sequences has.
  bool has_token = false;
  FinishReason reason = FinishReason::kStop;  // The gravest of its finished choices'.
};

inline int LiveSequence::num_output_tokens() const {
  return sequence.num_tokens() - request.num_prompt_tokens;
}

}  // namespace comet
