#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "engine/kv_cache/page_pool.h"

namespace comet {

using TimePoint = std::chrono::steady_clock::time_point;

// One choice of a request, as the scheduler sees it. Confined to the step thread.
struct Sequence {
  // Set by the owner before Enqueue().
  int64_t sequence_id = 0;
  int priority = 0;                       // Higher runs first.
  TimePoint arrival;                      // When the request was submitted.
  TimePoint deadline = TimePoint::max();  // When it expires.
  int num_tokens_max = 0;                 // Prompt and output together.
  std::vector<int> token_ids;             // Prompt, then output; the owner appends after a step.

  // Set by the scheduler.
  bool is_running = false;      // Holds pages; otherwise it waits.
  int num_computed_tokens = 0;  // Their keys and values are in the cache.
  int num_preemptions = 0;
  std::chrono::nanoseconds rank{};  // Smaller is served first; see Scheduler.
  PageTable page_table;

  int num_tokens() const { return static_cast<int>(token_ids.size()); }
  int num_pending_tokens() const { return num_tokens() - num_computed_tokens; }
  // Only the token sampled last is left to compute: the next step gives another.
  bool is_decoding() const { return num_computed_tokens > 0 && num_pending_tokens() == 1; }
};

}  // namespace comet
