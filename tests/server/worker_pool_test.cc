#include "server/http/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace comet {
namespace {

TEST(WorkerPool, RefusesNewWorkBeyondItsQueueButTakesContinuations) {
  std::promise<void> gate;
  std::promise<void> has_started;
  std::atomic<int> num_run = 0;
  WorkerPool pool({.num_threads = 1, .waiting_max = 1});
  ASSERT_TRUE(pool.TryPost([&] {
                    has_started.set_value();
                    gate.get_future().wait();
                  })
                  .ok());
  has_started.get_future().wait();

  EXPECT_TRUE(pool.TryPost([&] { ++num_run; }).ok());
  EXPECT_EQ(pool.TryPost([&] { ++num_run; }).code(), StatusCode::kResourceExhausted);
  std::promise<void> is_done;
  pool.Post([&] { is_done.set_value(); });
  gate.set_value();

  is_done.get_future().wait();
  EXPECT_EQ(num_run, 1);
}

TEST(WorkerPool, RunsWhatItAcceptedBeforeItEnds) {
  std::atomic<int> num_run = 0;
  {
    WorkerPool pool({.num_threads = 2, .waiting_max = 100});
    for (int i = 0; i < 100; ++i) pool.Post([&] { ++num_run; });
  }

  EXPECT_EQ(num_run, 100);
}

}  // namespace
}  // namespace comet
