#pragma once

namespace comet::cuda {

// What a grid's CTAs share to take numbered items of unequal cost in turn. Zeros between grids.
struct WorkCounters {
  unsigned num_taken;
  unsigned num_done;
};

// One CTA's side, by one thread: its first item is its own index, the next ones are those that
// nobody has taken. Grids that share counters run one after the other.
class WorkQueue {
 public:
  __device__ __forceinline__ explicit WorkQueue(WorkCounters* counters) : counters_(counters) {}

  // The counter is far away: nothing waits for the answer until ItemOf() looks at it.
  __device__ __forceinline__ unsigned Take() { return atomicAdd(&counters_->num_taken, 1u); }
  __device__ __forceinline__ static int ItemOf(unsigned taken) {
    return static_cast<int>(gridDim.x + taken);
  }

  // Once, after the last Take(): the last CTA leaves zeros.
  __device__ __forceinline__ void Finish() {
    __threadfence();
    if (atomicAdd(&counters_->num_done, 1u) + 1 == gridDim.x) *counters_ = {};
  }

 private:
  WorkCounters* counters_;
};

}  // namespace comet::cuda
