#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace comet {

// Of memory: nothing that can be read limits it, so how much there is is unknown.
inline constexpr int64_t kMemoryUnlimited = std::numeric_limits<int64_t>::max();

// What this process may use of its host: the smallest of the machine, the affinity mask and every
// control group above the process. Thread-safe.
struct HostLimits {
  int num_cpus = 1;  // At least 1; a fractional quota is rounded up.
  int64_t memory_total_bytes = 0;
  int64_t memory_free_bytes = 0;  // Page cache that can be dropped counts as free.
};

// CPUs of the calling thread's affinity mask, or those that are online where it cannot be told.
// `num_possible` is how many the mask has room for at first, for tests: it grows to what the kernel
// asks for.
int NumAffinityCpus(int num_possible = 1024);

// Reads <root>/proc and <root>/sys/fs/cgroup (version 2, or the memory controller of version 1) as
// they are at the moment. Files that are missing or unreadable limit nothing. `root` is for tests.
HostLimits ReadHostLimits(const std::string& root = "");

}  // namespace comet
