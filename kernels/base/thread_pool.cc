#include "kernels/base/thread_pool.h"

#include <memory>

#include "kernels/base/spin_pause.h"

namespace comet {
namespace {

// About 20 to 100 microseconds: longer than the serial part between two ops, shorter than waking a
// parked thread twice.
constexpr int kSpinsBeforePark = 2000;
// The caller waits for items in progress only; past this another process has the core.
constexpr int kSpinsBeforeYield = 10000;

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  is_stopping_ = true;
  ++epoch_;
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(const Job& job) {
  job_ = job;
  next_item_ = 0;
  is_open_ = true;
  ++epoch_;
  epoch_.notify_all();
  TakeItems(/*thread_idx=*/0);
  is_open_ = false;
  for (int spins = 0; num_inside_ != 0; ++spins) {
    spins < kSpinsBeforeYield ? SpinPause() : std::this_thread::yield();
  }
}

void ThreadPool::TakeItems(int thread_idx) {
  for (int i = next_item_++; i < job_.num_items; i = next_item_++) {
    job_.call(job_.context, i, thread_idx);
  }
}

void ThreadPool::Work(int thread_idx) {
  uint32_t epoch = 0;
  while (true) {
    epoch = WaitForLoop(epoch);
    if (is_stopping_) return;
    ++num_inside_;
    if (is_open_) TakeItems(thread_idx);
    --num_inside_;
  }
}

uint32_t ThreadPool::WaitForLoop(uint32_t epoch) {
  for (int spins = 0; epoch_ == epoch && spins < kSpinsBeforePark; ++spins) SpinPause();
  epoch_.wait(epoch);
  return epoch_;
}

ThreadPool& WorkersOfThisThread(int num_threads) {
  thread_local std::vector<std::unique_ptr<ThreadPool>> pools;  // One a count that was asked for.
  for (const std::unique_ptr<ThreadPool>& pool : pools) {
    if (pool->num_threads() == num_threads) return *pool;
  }
  pools.push_back(std::make_unique<ThreadPool>(num_threads));
  return *pools.back();
}

}  // namespace comet
