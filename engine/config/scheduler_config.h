#pragma once

#include <cstdint>

#include "kernels/base/status.h"

namespace comet {

struct SchedulerConfig {
  int step_tokens_max = 512;         // Tokens computed in one step, prefill and decode together.
  int running_sequences_max = 64;    // Sequences that hold KV pages at once.
  int waiting_sequences_max = 256;   // Beyond it Submit() answers kResourceExhausted (HTTP 429).
  int waiting_tokens_max = 1 << 20;  // The same, in prompt tokens.
  int choices_max = 16;              // Largest n of one request.
  int request_deadline_ms = 600000;  // From Submit() to the last token.
  int aging_ms = 10000;              // Waiting this long is worth one level of priority.

  Status Validate() const;

  // Whether an empty queue would take one client's sequences; one alone always has a place. Errors:
  // kInvalidArgument with the limit: later would not help.
  Status CheckFitsQueue(int num_sequences, int64_t num_prompt_tokens) const;
};

}  // namespace comet
