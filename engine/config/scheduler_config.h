#pragma once

#include <cstdint>

#include "kernels/base/status.h"

namespace comet {

struct SchedulerConfig {
  // Tokens computed in one step, prefill and decode together, and sequences that hold KV pages at
  // once; 0: by the kind of device, see ForDevice().
  int step_tokens_max = 0;
  int running_sequences_max = 0;
  int waiting_sequences_max = 512;   // Beyond it Submit() answers kResourceExhausted (HTTP 429).
  int waiting_tokens_max = 1 << 20;  // The same, in prompt tokens.
  int choices_max = 16;              // Largest n of one request.
  int request_deadline_ms = 600000;  // From Submit() to the last token.
  int aging_ms = 2000;               // Waiting this long is worth one level of priority.

  // Refuses, among others, an aging so slow that a request of the lowest priority could wait behind
  // ones of the highest until its deadline.
  Status Validate() const;

  // With what is left to the device chosen: 512 tokens and 64 sequences on a host, 2,048 and 512 on
  // a GPU (measured: engine/runtime/README.md), but never fewer tokens than sequences or the
  // reverse.
  SchedulerConfig ForDevice(bool is_host) const;

  // Whether an empty queue would take one client's sequences; one alone always has a place. Errors:
  // kInvalidArgument with the limit: later would not help.
  Status CheckFitsQueue(int num_sequences, int64_t num_prompt_tokens) const;
};

}  // namespace comet
