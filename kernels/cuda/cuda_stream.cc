#include "kernels/cuda/cuda_stream.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/cuda_status.h"

namespace comet {
namespace {

using cuda::StatusOf;

cudaStream_t HandleOf(const CudaStream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

}  // namespace

Result<CudaStream> CudaStream::Create() {
  cudaStream_t handle = nullptr;
  COMET_RETURN_IF_ERROR(StatusOf(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking),
                                 "cudaStreamCreateWithFlags"));
  CudaStream stream;
  stream.handle_ = handle;
  return stream;
}

// The destructors here fail only in a context that an earlier fault has poisoned, which was
// reported then.
CudaStream::~CudaStream() {
  if (handle_ != nullptr) static_cast<void>(cudaStreamDestroy(HandleOf(*this)));
}

Status CudaStream::Synchronize() const {
  return StatusOf(cudaStreamSynchronize(HandleOf(*this)), "cudaStreamSynchronize");
}

Result<CudaEvent> CudaEvent::Create() {
  cudaEvent_t handle = nullptr;
  COMET_RETURN_IF_ERROR(StatusOf(cudaEventCreate(&handle), "cudaEventCreate"));
  CudaEvent event;
  event.handle_ = handle;
  return event;
}

CudaEvent::~CudaEvent() {
  if (handle_ != nullptr) static_cast<void>(cudaEventDestroy(static_cast<cudaEvent_t>(handle_)));
}

Status CudaEvent::Record(const CudaStream& stream) const {
  return StatusOf(cudaEventRecord(static_cast<cudaEvent_t>(handle_), HandleOf(stream)),
                  "cudaEventRecord");
}

Status CudaEvent::Synchronize() const {
  return StatusOf(cudaEventSynchronize(static_cast<cudaEvent_t>(handle_)), "cudaEventSynchronize");
}

Result<double> CudaEvent::MicrosecondsSince(const CudaEvent& begin) const {
  const cudaEvent_t begin_handle = static_cast<cudaEvent_t>(begin.handle_);
  const cudaEvent_t end_handle = static_cast<cudaEvent_t>(handle_);
  COMET_RETURN_IF_ERROR(begin.Synchronize());
  COMET_RETURN_IF_ERROR(Synchronize());
  float milliseconds = 0.0f;
  COMET_RETURN_IF_ERROR(StatusOf(cudaEventElapsedTime(&milliseconds, begin_handle, end_handle),
                                 "cudaEventElapsedTime"));
  return 1000.0 * static_cast<double>(milliseconds);
}

Result<CudaGraph> CudaGraph::Capture(const CudaStream& stream,
                                     const std::function<Status()>& issue) {
  COMET_RETURN_IF_ERROR(
      StatusOf(cudaStreamBeginCapture(HandleOf(stream), cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture"));
  const Status issued = issue();
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(HandleOf(stream), &graph);
  if (!issued.ok() || ended != cudaSuccess) {
    if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
    static_cast<void>(cudaGetLastError());  // An invalidated capture is reported here.
    return issued.ok() ? StatusOf(ended, "cudaStreamEndCapture") : issued;
  }
  cudaGraphExec_t handle = nullptr;
  const cudaError_t instantiated = cudaGraphInstantiate(&handle, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  COMET_RETURN_IF_ERROR(StatusOf(instantiated, "cudaGraphInstantiate"));
  CudaGraph captured;
  captured.handle_ = handle;
  return captured;
}

CudaGraph::~CudaGraph() {
  if (handle_ != nullptr) {
    static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(handle_)));
  }
}

Status CudaGraph::Launch(const CudaStream& stream) const {
  return StatusOf(cudaGraphLaunch(static_cast<cudaGraphExec_t>(handle_), HandleOf(stream)),
                  "cudaGraphLaunch");
}

}  // namespace comet
