#pragma once

#include <cstdint>

#include "engine/config/scheduler_config.h"
#include "kernels/base/status.h"

namespace comet {

struct KvCacheConfig {
  int64_t bytes_max = 0;  // Memory of the page pool; 0: memory_fraction of what is free after load.
  double memory_fraction = 0.0;  // 0: all of a GPU's memory but a reserve, half of a host's.

  Status Validate() const;
};

struct EngineConfig {
  SchedulerConfig scheduler;
  KvCacheConfig kv_cache;
  int context_length_max = 0;  // Tokens of one sequence; 0: the model's own.
  int stall_ms_max = 30000;    // A step longer than this makes CheckReady() fail.
  // Of a GPU; results depend on neither, but through who is preempted (engine/README.md).
  bool works_ahead = true;    // Plan and issue a step while the one before computes.
  bool decode_graphs = true;  // Issue decode steps of captured sizes by one call.

  Status Validate() const;
};

}  // namespace comet
