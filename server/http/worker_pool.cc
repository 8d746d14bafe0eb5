#include "server/http/worker_pool.h"

#include <atomic>
#include <memory>
#include <utility>

#include "kernels/base/str_cat.h"

namespace comet {

WorkerPool::WorkerPool(const WorkerPoolConfig& config) : config_(config) {
  for (int i = 0; i < config_.num_threads; ++i) {
    threads_.emplace_back([this] { RunThread(); });
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  has_work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Status WorkerPool::TryPost(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (static_cast<int>(jobs_.size()) >= config_.waiting_max) {
      return ResourceExhausted(
          StrCat("worker pool: ", jobs_.size(), " jobs wait, expected fewer: try again later"));
    }
    jobs_.push_back(std::move(job));
  }
  has_work_.notify_one();
  return Status::Ok();
}

void WorkerPool::Post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  has_work_.notify_one();
}

void WorkerPool::RunThread() {
  while (true) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      has_work_.wait(lock, [this] { return is_stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

Task<Status> RunOnPool(HttpExchange& exchange, WorkerPool& pool, std::function<void()> job) {
  // Shared, because the worker still holds the flag when the coroutine has seen it set.
  const auto is_done = std::make_shared<std::atomic<bool>>(false);
  std::function<void()> wake = exchange.MakeWaker();
  COMET_CO_RETURN_IF_ERROR(pool.TryPost([job = std::move(job), wake = std::move(wake), is_done] {
    job();
    // Released to the load below, with everything the job wrote.
    is_done->store(true, std::memory_order_release);
    wake();
  }));
  while (!is_done->load(std::memory_order_acquire)) co_await exchange.Wait();
  co_return Status::Ok();
}

}  // namespace comet
