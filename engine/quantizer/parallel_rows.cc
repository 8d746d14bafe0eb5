#include "engine/quantizer/parallel_rows.h"

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace comet {

void ParallelRows(int num_threads, int num_rows, const std::function<void(int, int)>& body) {
  const int num_ranges = std::clamp(num_threads, 1, std::max(num_rows, 1));
  const auto bound = [&](int i) { return static_cast<int>(int64_t{num_rows} * i / num_ranges); };
  std::vector<std::jthread> threads;  // Joined when it goes out of scope.
  threads.reserve(static_cast<size_t>(num_ranges));
  for (int i = 1; i < num_ranges; ++i) {
    threads.emplace_back([&body, first = bound(i), last = bound(i + 1)] { body(first, last); });
  }
  body(bound(0), bound(1));
}

}  // namespace comet
