#include "kernels/cuda/bench/replay.h"

#include <algorithm>

namespace comet::cuda {

Result<Replay> Replay::Capture(CudaDevice& device, int num_launches,
                               const std::function<Status(int)>& issue) {
  Replay replay;
  replay.num_launches_ = num_launches;
  COMET_RETURN_IF_ERROR(device.MakeCurrent());
  COMET_ASSIGN_OR_RETURN(replay.begin_, CudaEvent::Create());
  COMET_ASSIGN_OR_RETURN(replay.end_, CudaEvent::Create());
  COMET_ASSIGN_OR_RETURN(replay.graph_, CudaGraph::Capture(device.stream(), [&]() -> Status {
                           for (int i = 0; i < num_launches; ++i) {
                             COMET_RETURN_IF_ERROR(issue(i));
                           }
                           return Status::Ok();
                         }));
  return replay;
}

Status Replay::Start(const CudaDevice& device) const {
  COMET_RETURN_IF_ERROR(begin_.Record(device.stream()));
  COMET_RETURN_IF_ERROR(graph_.Launch(device.stream()));
  return end_.Record(device.stream());
}

Result<double> Replay::Finish() const {
  COMET_ASSIGN_OR_RETURN(const double us, end_.MicrosecondsSince(begin_));
  return us / num_launches_;
}

double Median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace comet::cuda
