#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime_api.h>

#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/missing_device.h"

namespace comet {
namespace {

using cuda::StatusOf;

cudaStream_t HandleOf(const CudaStream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

class StreamEvent final : public DeviceEvent {
 public:
  StreamEvent(const CudaDevice& device, CudaEvent event)
      : device_(device), event_(std::move(event)) {}

  Status Record() override {
    COMET_RETURN_IF_ERROR(device_.MakeCurrent());
    return event_.Record(device_.stream());
  }
  Status Wait() override {
    COMET_RETURN_IF_ERROR(device_.MakeCurrent());
    return event_.Synchronize();
  }

 private:
  const CudaDevice& device_;
  const CudaEvent event_;
};

class StreamGraph final : public DeviceGraph {
 public:
  StreamGraph(const CudaDevice& device, CudaGraph graph)
      : device_(device), graph_(std::move(graph)) {}

  Status Launch() override {
    COMET_RETURN_IF_ERROR(device_.MakeCurrent());
    return graph_.Launch(device_.stream());
  }

 private:
  const CudaDevice& device_;
  const CudaGraph graph_;
};

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::Create(int device_idx) {
  int num_devices = 0;
  const cudaError_t counted = cudaGetDeviceCount(&num_devices);
  if (counted == cudaErrorInsufficientDriver || counted == cudaErrorNoDevice) {
    int driver_version = 0;
    COMET_RETURN_IF_ERROR(StatusOf(cudaDriverGetVersion(&driver_version), "cudaDriverGetVersion"));
    return cuda::MissingDevice(driver_version, CUDART_VERSION);
  }
  COMET_RETURN_IF_ERROR(StatusOf(counted, "cudaGetDeviceCount"));
  if (device_idx < 0 || device_idx >= num_devices) {
    return Internal(
        StrCat("cuda_device: device_idx is ", device_idx, ", expected below ", num_devices));
  }
  cudaDeviceProp properties{};
  COMET_RETURN_IF_ERROR(
      StatusOf(cudaGetDeviceProperties(&properties, device_idx), "cudaGetDeviceProperties"));
  COMET_RETURN_IF_ERROR(StatusOf(cudaSetDevice(device_idx), "cudaSetDevice"));
  COMET_ASSIGN_OR_RETURN(CudaStream stream, CudaStream::Create());
  std::string description = StrCat("cuda:", device_idx, " (", properties.name, ", sm_",
                                   properties.major, properties.minor, ")");
  return std::unique_ptr<CudaDevice>(new CudaDevice(
      device_idx, std::move(description), properties.multiProcessorCount, std::move(stream)));
}

Status CudaDevice::MakeCurrent() const {
  return StatusOf(cudaSetDevice(device_idx_), "cudaSetDevice");
}

Result<DeviceBuffer> CudaDevice::Allocate(int64_t num_bytes) {
  if (num_bytes < 0) {
    return InvalidArgument(
        StrCat("cuda_device: num_bytes is ", num_bytes, ", expected at least 0"));
  }
  if (num_bytes == 0) return DeviceBuffer();
  COMET_RETURN_IF_ERROR(MakeCurrent());
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(num_bytes));
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // Lack of memory is reported here and is not sticky.
    COMET_ASSIGN_OR_RETURN(const DeviceMemory memory, QueryMemory());
    return ResourceExhausted(StrCat("cuda_device: an allocation is ", num_bytes,
                                    " bytes, expected at most ", memory.free_bytes, " bytes free"));
  }
  COMET_RETURN_IF_ERROR(StatusOf(error, "cudaMalloc"));
  return DeviceBuffer(this, data, num_bytes, MemoryKind::kDevice);
}

// Pinned, or a copy would wait for the stream.
Result<DeviceBuffer> CudaDevice::AllocateStaging(int64_t num_bytes) {
  if (num_bytes == 0) return DeviceBuffer();
  COMET_RETURN_IF_ERROR(MakeCurrent());
  void* data = nullptr;
  COMET_RETURN_IF_ERROR(
      StatusOf(cudaMallocHost(&data, static_cast<size_t>(num_bytes)), "cudaMallocHost"));
  return DeviceBuffer(this, data, num_bytes, MemoryKind::kStaging);
}

// Waits for the device, so work issued on the buffer ends first. A failure repeats a fault that
// Synchronize() has reported.
void CudaDevice::Free(void* data, int64_t, MemoryKind kind) {
  if (!MakeCurrent().ok()) return;
  static_cast<void>(kind == MemoryKind::kStaging ? cudaFreeHost(data) : cudaFree(data));
}

Result<DeviceMemory> CudaDevice::QueryMemory() {
  COMET_RETURN_IF_ERROR(MakeCurrent());
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  COMET_RETURN_IF_ERROR(StatusOf(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo"));
  return DeviceMemory{.total_bytes = static_cast<int64_t>(total_bytes),
                      .free_bytes = static_cast<int64_t>(free_bytes)};
}

// Pinned sources are copied after the call returns: wait, as the contract lets them be reused.
Status CudaDevice::CopyToDevice(void* destination, const void* source, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(StartCopyToDevice(destination, source, num_bytes));
  return Synchronize();
}

Status CudaDevice::CopyToHost(void* destination, const void* source, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(StartCopyToHost(destination, source, num_bytes));
  return Synchronize();
}

Status CudaDevice::StartCopyToDevice(void* destination, const void* staging, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(MakeCurrent());
  return StatusOf(cudaMemcpyAsync(destination, staging, static_cast<size_t>(num_bytes),
                                  cudaMemcpyHostToDevice, HandleOf(stream_)),
                  "cudaMemcpyAsync");
}

Status CudaDevice::StartCopyToHost(void* staging, const void* source, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(MakeCurrent());
  return StatusOf(cudaMemcpyAsync(staging, source, static_cast<size_t>(num_bytes),
                                  cudaMemcpyDeviceToHost, HandleOf(stream_)),
                  "cudaMemcpyAsync");
}

Status CudaDevice::FillZero(void* destination, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(MakeCurrent());
  return StatusOf(
      cudaMemsetAsync(destination, 0, static_cast<size_t>(num_bytes), HandleOf(stream_)),
      "cudaMemsetAsync");
}

Result<std::unique_ptr<DeviceEvent>> CudaDevice::CreateEvent() {
  COMET_RETURN_IF_ERROR(MakeCurrent());
  COMET_ASSIGN_OR_RETURN(CudaEvent event, CudaEvent::Create());
  return std::unique_ptr<DeviceEvent>(std::make_unique<StreamEvent>(*this, std::move(event)));
}

Result<std::unique_ptr<DeviceGraph>> CudaDevice::Capture(const std::function<Status()>& issue) {
  COMET_RETURN_IF_ERROR(MakeCurrent());
  COMET_ASSIGN_OR_RETURN(CudaGraph graph, CudaGraph::Capture(stream_, issue));
  return std::unique_ptr<DeviceGraph>(std::make_unique<StreamGraph>(*this, std::move(graph)));
}

Status CudaDevice::Synchronize() {
  COMET_RETURN_IF_ERROR(MakeCurrent());
  return stream_.Synchronize();
}

Status CudaDevice::MarkTime(int mark_idx) {
  COMET_CHECK(mark_idx >= 0 && mark_idx < kTimeMarksMax);
  COMET_RETURN_IF_ERROR(MakeCurrent());
  while (marks_.size() <= static_cast<size_t>(mark_idx)) {
    COMET_ASSIGN_OR_RETURN(CudaEvent mark, CudaEvent::Create());
    marks_.push_back(std::move(mark));
  }
  return marks_[static_cast<size_t>(mark_idx)].Record(stream_);
}

Result<double> CudaDevice::MicrosecondsBetween(int begin_idx, int end_idx) {
  return marks_.at(static_cast<size_t>(end_idx))
      .MicrosecondsSince(marks_.at(static_cast<size_t>(begin_idx)));
}

}  // namespace comet
