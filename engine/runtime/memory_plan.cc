#include "engine/runtime/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr double kHostFraction = 0.5;
// Of a GPU: captured graphs, the loader's staging buffers, allocations' rounding, modules that the
// driver loads at first use.
constexpr int64_t kDeviceReserveBytes = int64_t{1536} << 20;

std::string Mebibytes(int64_t bytes) {
  return StrCat((bytes + (int64_t{1} << 20) - 1) >> 20, " MiB");
}

// "61 MiB are needed (40 MiB weights, ...), the device has 50 MiB free of 60 MiB".
std::string Balance(const MemoryPlan& plan, int64_t pool_bytes, const DeviceMemory& memory) {
  const int64_t fixed_bytes = plan.weights_bytes + plan.activations_bytes + plan.reserve_bytes;
  return StrCat(Mebibytes(fixed_bytes + pool_bytes), " are needed (", Mebibytes(plan.weights_bytes),
                " weights, ", Mebibytes(plan.activations_bytes), " activations, ",
                Mebibytes(plan.reserve_bytes), " reserve, ", Mebibytes(pool_bytes),
                " KV cache), the device has ", Mebibytes(memory.free_bytes), " free of ",
                Mebibytes(memory.total_bytes));
}

}  // namespace

Result<MemoryPlan> PlanMemory(const EngineConfig& config, const ModelLimits& limits,
                              const MemoryNeeds& needs, const DeviceMemory& memory) {
  MemoryPlan plan{.free_bytes = memory.free_bytes,
                  .weights_bytes = needs.weights_bytes,
                  .activations_bytes = needs.activations_bytes,
                  .reserve_bytes = needs.is_host ? 0 : kDeviceReserveBytes,
                  .kv_page_bytes = needs.kv_page_bytes};
  const int64_t sequence_bytes = plan.kv_page_bytes * limits.pages_per_sequence_max;
  const int64_t left_bytes =
      memory.free_bytes - plan.weights_bytes - plan.activations_bytes - plan.reserve_bytes;
  if (left_bytes <= 0) {
    return ResourceExhausted(
        StrCat("memory: the model does not fit: ", Balance(plan, sequence_bytes, memory),
               ": lower --step-tokens-max and --running-sequences-max, or take a larger device"));
  }
  const double fraction = config.kv_cache.memory_fraction > 0.0 ? config.kv_cache.memory_fraction
                          : needs.is_host                       ? kHostFraction
                                                                : 1.0;
  const int64_t pool_bytes = config.kv_cache.bytes_max > 0
                                 ? config.kv_cache.bytes_max
                                 : static_cast<int64_t>(static_cast<double>(left_bytes) * fraction);
  if (left_bytes < sequence_bytes || pool_bytes > left_bytes) {
    return ResourceExhausted(
        StrCat("memory: ", Balance(plan, std::max(pool_bytes, sequence_bytes), memory),
               ", and a context of ", limits.pages_per_sequence_max * kPageTokens, " tokens takes ",
               Mebibytes(sequence_bytes), ": lower --context-length or --kv-cache-bytes"));
  }
  if (pool_bytes < sequence_bytes) {
    return InvalidArgument(StrCat("kv_cache: ", Mebibytes(pool_bytes), " hold no sequence of ",
                                  limits.pages_per_sequence_max * kPageTokens,
                                  " tokens, which takes ", Mebibytes(sequence_bytes),
                                  ": raise --kv-cache-bytes or lower --context-length"));
  }
  const int64_t useful = static_cast<int64_t>(limits.sequences_max) * limits.pages_per_sequence_max;
  plan.num_pages = static_cast<int>(std::min(pool_bytes / plan.kv_page_bytes, useful));
  return plan;
}

}  // namespace comet
