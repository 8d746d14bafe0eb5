#pragma once

#include <cstdint>

#include "engine/config/engine_config.h"
#include "engine/model/model.h"
#include "kernels/base/status.h"
#include "kernels/device.h"

namespace comet {

// Where a device's memory goes.
struct MemoryPlan {
  int64_t free_bytes = 0;  // Before anything is loaded.
  int64_t weights_bytes = 0;
  int64_t activations_bytes =
      0;                      // And logits, their sampling, rotary tables: for the largest step.
  int64_t reserve_bytes = 0;  // Graphs, staging buffers, and what an estimate may miss.
  int64_t kv_page_bytes = 0;  // One page over every layer.
  int num_pages = 0;

  int64_t kv_cache_bytes() const { return kv_page_bytes * num_pages; }
};

// What is known of a model before it is loaded.
struct MemoryNeeds {
  int64_t weights_bytes = 0;
  int64_t activations_bytes = 0;
  int64_t kv_page_bytes = 0;
  bool is_host = false;  // The device's memory is the host's, which others use too.
};

// Pages of the pool: what the configuration grants of what is left, at most what
// running_sequences_max full sequences can use, at least one full sequence. Of a GPU's memory all
// is granted but the reserve; of a host's, half. `limits.num_pages` is not read. Errors:
// kResourceExhausted, naming every part, what is needed and what there is: weights and activations
// alone do not fit, or no sequence of the full context beside them, or kv_cache.bytes_max does not;
// kInvalidArgument: the pool that the configuration grants holds no sequence.
Result<MemoryPlan> PlanMemory(const EngineConfig& config, const ModelLimits& limits,
                              const MemoryNeeds& needs, const DeviceMemory& memory);

}  // namespace comet
