#pragma once

#include "kernels/cuda/cuda_device.h"

namespace comet::sm80 {

// The mean rate of the card's clock between two places of its stream: a card that is at its limit
// of power slows down, by a tenth where products of many tokens follow one another.
class ClockMeter {
 public:
  static Result<ClockMeter> Create(CudaDevice& device);

  Status MarkBegin(CudaDevice& device) const { return Mark(device, 0); }
  Status MarkEnd(CudaDevice& device) const { return Mark(device, 1); }
  // In GHz, of the marks made last; waits for them.
  Result<double> Ghz(CudaDevice& device) const;

 private:
  Status Mark(CudaDevice& device, int mark) const;

  DeviceBuffer marks_;  // Of each mark and multiprocessor, clocks and nanoseconds.
};

}  // namespace comet::sm80
