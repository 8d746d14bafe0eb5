#pragma once

#include <functional>
#include <vector>

#include "kernels/cuda/cuda_device.h"

namespace comet::cuda {

// A kernel's launches in one graph, which is replayed and timed. Work on the device's stream.
class Replay {
 public:
  // `issue(i)` launches the i-th; what varies with i should rotate past the cache.
  static Result<Replay> Capture(CudaDevice& device, int num_launches,
                                const std::function<Status(int)>& issue);

  int num_launches() const { return num_launches_; }
  Status Start(const CudaDevice& device) const;
  // Microseconds of one launch in the replay started last; waits for it.
  Result<double> Finish() const;

 private:
  CudaGraph graph_;
  CudaEvent begin_;
  CudaEvent end_;
  int num_launches_ = 0;
};

// Of the middle one, or of the two in the middle; sorts `values`, which are not empty.
double Median(std::vector<double>& values);

}  // namespace comet::cuda
