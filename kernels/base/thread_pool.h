#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace comet {

// Workers for loops. The calling thread computes too, so num_threads - 1 threads are
// started. They spin for a few microseconds after a loop, as the next op's usually follows, then
// park. ParallelFor() is confined to one thread at a time and is not reentrant.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(item_idx, thread_idx) once for every item and returns when all are done. Items go to
  // threads in no fixed order, so each must write its own results; thread_idx names its scratch.
  template <typename Fn>
  void ParallelFor(int num_items, const Fn& fn) {
    if (num_items <= 0) return;
    if (num_items == 1 || workers_.empty()) {
      for (int i = 0; i < num_items; ++i) fn(i, 0);
      return;
    }
    Run({.call = [](const void* context, int item_idx,
                    int thread_idx) { (*static_cast<const Fn*>(context))(item_idx, thread_idx); },
         .context = &fn,
         .num_items = num_items});
  }

 private:
  struct Job {
    void (*call)(const void* context, int item_idx, int thread_idx) = nullptr;
    const void* context = nullptr;
    int num_items = 0;
  };

  void Run(const Job& job);
  void Work(int thread_idx);
  void TakeItems(int thread_idx);
  // Waits until a loop begins after `epoch`; returns its epoch.
  uint32_t WaitForLoop(uint32_t epoch);

  // A loop is open from the moment its job is complete until no item is left. A worker enters
  // (counts itself) before it looks whether the loop is open, and Run() closes the loop before it
  // waits for the count to fall to zero; all of these are sequentially consistent, so job_ never
  // changes under a worker that saw the loop open.
  Job job_;
  std::atomic<int> next_item_{0};
  std::atomic<bool> is_open_{false};
  std::atomic<int> num_inside_{0};
  std::atomic<uint32_t> epoch_{0};  // Counts loops; what parked workers wait on.
  std::atomic<bool> is_stopping_{false};
  std::vector<std::thread> workers_;
};

// The calling thread's pool of that many threads, made when first asked for and kept while the
// caller lives. Whatever loops a thread runs by turns, those of a back end's ops and its own, share
// it: the workers of two pools would spin for the same cores.
ThreadPool& WorkersOfThisThread(int num_threads);

}  // namespace comet
