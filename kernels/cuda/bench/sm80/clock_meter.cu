#include <utility>
#include <vector>

#include "kernels/cuda/bench/sm80/clock_meter.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/device/ptx_clock.cuh"

namespace comet::sm80 {
namespace {

constexpr int kSmsMax = 256;

struct Moment {
  uint64_t clocks;
  uint64_t ns;
};

__global__ void MarkKernel(Moment* marks) {
  const uint32_t sm = ptx::SmIdx();
  if (sm < kSmsMax) marks[sm] = {ptx::Clocks(), ptx::Nanoseconds()};
}

}  // namespace

Result<ClockMeter> ClockMeter::Create(CudaDevice& device) {
  ClockMeter meter;
  COMET_ASSIGN_OR_RETURN(meter.marks_, device.Allocate(2 * kSmsMax * int64_t{sizeof(Moment)}));
  COMET_RETURN_IF_ERROR(
      device.FillZero(meter.marks_.data(), 2 * kSmsMax * int64_t{sizeof(Moment)}));
  return std::move(meter);  // nvcc takes `meter` for a copy.
}

Status ClockMeter::Mark(CudaDevice& device, int mark) const {
  MarkKernel<<<static_cast<unsigned>(device.num_sms()), 1, 0,
               static_cast<cudaStream_t>(device.stream().handle())>>>(
      static_cast<Moment*>(marks_.data()) + mark * kSmsMax);
  return cuda::LaunchStatus("clock_meter");
}

Result<double> ClockMeter::Ghz(CudaDevice& device) const {
  std::vector<Moment> marks(2 * kSmsMax);
  COMET_RETURN_IF_ERROR(
      device.CopyToHost(marks.data(), marks_.data(), 2 * kSmsMax * int64_t{sizeof(Moment)}));
  COMET_RETURN_IF_ERROR(device.Synchronize());
  double clocks = 0;
  double ns = 0;
  for (int sm = 0; sm < kSmsMax; ++sm) {
    const Moment& begin = marks[static_cast<size_t>(sm)];
    const Moment& end = marks[static_cast<size_t>(kSmsMax + sm)];
    if (begin.ns == 0 || end.ns <= begin.ns) continue;
    clocks += static_cast<double>(end.clocks - begin.clocks);
    ns += static_cast<double>(end.ns - begin.ns);
  }
  return ns > 0 ? clocks / ns : 0.0;
}

}  // namespace comet::sm80
