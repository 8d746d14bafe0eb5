#include "kernels/base/host_limits.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace comet {
namespace {

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (!(file >> number)) return std::nullopt;  // Absent, or "max".
  return number;
}

// The number after `key` on its own line: "key 123" or "key: 123 kB".
std::optional<int64_t> ReadField(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    int64_t number = 0;
    if (words >> word && word == key && words >> number) return number;
  }
  return std::nullopt;
}

// The process's groups of one hierarchy, innermost first: "/a/b", "/a", "".
std::vector<std::string> GroupsOf(const std::string& root, std::string_view controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  std::string group;
  while (std::getline(file, line)) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (line.substr(first + 1, second - first - 1) == controller) group = line.substr(second + 1);
  }
  std::vector<std::string> groups;
  while (group.size() > 1) {
    groups.push_back(group);
    group.resize(group.rfind('/'));
  }
  groups.emplace_back();
  return groups;
}

struct MemoryFiles {
  std::string_view controller;  // As named in /proc/self/cgroup.
  std::string_view mount;
  std::string_view limit;
  std::string_view usage;
  std::string_view reclaimable;  // Field of memory.stat.
};

constexpr MemoryFiles kMemoryFiles[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"},
    {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file"},
};

void LimitMemory(const std::string& root, const MemoryFiles& files, HostLimits& limits) {
  for (const std::string& group : GroupsOf(root, files.controller)) {
    const std::string folder = root + std::string(files.mount) + group + "/";
    const std::optional<int64_t> limit = ReadNumber(folder + std::string(files.limit));
    if (!limit) continue;
    const int64_t usage = ReadNumber(folder + std::string(files.usage)).value_or(0);
    const int64_t reclaimable = ReadField(folder + "memory.stat", files.reclaimable).value_or(0);
    limits.memory_total_bytes = std::min(limits.memory_total_bytes, *limit);
    limits.memory_free_bytes =
        std::min(limits.memory_free_bytes, std::max<int64_t>(0, *limit - usage + reclaimable));
  }
}

int QuotaCpus(const std::string& root) {
  int64_t num_cpus = std::numeric_limits<int>::max();
  for (const std::string& group : GroupsOf(root, "")) {
    std::ifstream file(root + "/sys/fs/cgroup" + group + "/cpu.max");
    int64_t quota = 0;
    int64_t period = 0;
    if (file >> quota >> period && quota > 0 && period > 0) {
      num_cpus = std::min(num_cpus, (quota + period - 1) / period);
    }
  }
  return static_cast<int>(num_cpus);
}

}  // namespace

// A mask smaller than the kernel's is EINVAL, whatever the CPUs in it.
int NumAffinityCpus(int num_possible) {
  constexpr int kPossibleMax = 1 << 20;
  for (int size = num_possible; size <= kPossibleMax; size = std::max(2 * size, 64)) {
    cpu_set_t* const mask = CPU_ALLOC(static_cast<size_t>(size));
    if (mask == nullptr) break;
    const size_t mask_bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    const bool is_told = sched_getaffinity(0, mask_bytes, mask) == 0;
    const bool is_too_small = !is_told && errno == EINVAL;
    const int num_cpus = is_told ? CPU_COUNT_S(mask_bytes, mask) : 0;
    CPU_FREE(mask);
    if (is_told) return std::max(1, num_cpus);
    if (!is_too_small) break;
  }
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

HostLimits ReadHostLimits(const std::string& root) {
  constexpr int64_t kKib = 1024;
  const std::string meminfo = root + "/proc/meminfo";
  const std::optional<int64_t> total = ReadField(meminfo, "MemTotal:");
  const std::optional<int64_t> available = ReadField(meminfo, "MemAvailable:");
  HostLimits limits;
  limits.memory_total_bytes = total ? *total * kKib : kMemoryUnlimited;
  limits.memory_free_bytes = available ? *available * kKib : kMemoryUnlimited;
  for (const MemoryFiles& files : kMemoryFiles) LimitMemory(root, files, limits);
  limits.num_cpus = std::max(1, std::min(NumAffinityCpus(), QuotaCpus(root)));
  return limits;
}

}  // namespace comet
