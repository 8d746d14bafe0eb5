#include "kernels/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <vector>

namespace comet {
namespace {

TEST(ThreadPool, CallsEveryItemOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    for (const int num_items : {0, 1, 2, 3, 100, 10'000}) {
      std::vector<std::atomic<int>> num_calls(static_cast<size_t>(num_items));

      pool.ParallelFor(num_items,
                       [&](int item_idx, int) { ++num_calls[static_cast<size_t>(item_idx)]; });

      for (const std::atomic<int>& calls : num_calls) ASSERT_EQ(calls, 1);
    }
  }
}

TEST(ThreadPool, NoTwoItemsShareAThreadsScratchAtOnce) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> num_inside(4);
  std::atomic<int> num_shared{0};

  for (int loop = 0; loop < 200; ++loop) {
    pool.ParallelFor(64, [&](int, int thread_idx) {
      std::atomic<int>& inside = num_inside[static_cast<size_t>(thread_idx)];
      if (++inside != 1) ++num_shared;
      --inside;
    });
  }

  EXPECT_EQ(num_shared, 0);
}

// Loops follow each other faster than workers wake: a late one must not see the next loop's job
// half made, nor an earlier one's.
TEST(ThreadPool, ManyShortLoopsAreEachComplete) {
  ThreadPool pool(3);
  for (int loop = 0; loop < 20'000; ++loop) {
    int64_t results[7] = {};
    pool.ParallelFor(7, [&](int item_idx, int) { results[item_idx] = loop + item_idx; });

    ASSERT_EQ(std::accumulate(std::begin(results), std::end(results), int64_t{0}),
              int64_t{7} * loop + 21);
  }
}

}  // namespace
}  // namespace comet
