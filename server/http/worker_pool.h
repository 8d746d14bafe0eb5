#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/base/thread_annotations.h"
#include "server/http/http_exchange.h"
#include "server/http/task.h"

namespace comet {

struct WorkerPoolConfig {
  int num_threads = 2;
  int waiting_max = 512;  // Jobs that wait for a thread; beyond it TryPost() refuses.
};

// Threads for work too long for an I/O thread: reading bodies, templates, tokenizing. Thread-safe.
class WorkerPool {
 public:
  explicit WorkerPool(const WorkerPoolConfig& config);
  // Runs what was accepted, then joins.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // New work. Errors: kResourceExhausted when waiting_max jobs wait.
  Status TryPost(std::function<void()> job);
  // The continuation of admitted work, whose number admission bounds.
  void Post(std::function<void()> job);

 private:
  void RunThread();

  const WorkerPoolConfig config_;
  std::mutex mutex_;
  std::condition_variable has_work_;
  std::deque<std::function<void()>> jobs_ COMET_GUARDED_BY(mutex_);
  bool is_stopping_ COMET_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Runs `job` on the pool and waits for its end, whether or not the client stays: the job may use
// the caller's locals. Errors: kResourceExhausted, and then the job does not run.
Task<Status> RunOnPool(HttpExchange& exchange, WorkerPool& pool, std::function<void()> job);

}  // namespace comet
