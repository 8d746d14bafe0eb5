#include "engine/quantizer/parallel_rows.h"

#include <algorithm>
#include <cstdint>

#include "kernels/base/thread_pool.h"

namespace comet {
namespace {

// What is slower than the others, by its work or as another process has its core, holds up less.
constexpr int kRangesPerThread = 4;

}  // namespace

void ParallelRows(int num_threads, int num_rows, const std::function<void(int, int)>& body) {
  if (num_rows <= 0) return;
  if (num_threads <= 1 || num_rows == 1) return body(0, num_rows);
  const int num_ranges = std::min(kRangesPerThread * num_threads, num_rows);
  const auto bound = [&](int i) { return static_cast<int>(int64_t{num_rows} * i / num_ranges); };
  WorkersOfThisThread(num_threads).ParallelFor(num_ranges, [&](int i, int) {
    body(bound(i), bound(i + 1));
  });
}

}  // namespace comet
