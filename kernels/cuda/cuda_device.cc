#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime_api.h>

#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"

namespace comet {
namespace {

using cuda::StatusOf;

cudaStream_t HandleOf(const CudaStream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::Create(int device_idx) {
  int num_devices = 0;
  COMET_RETURN_IF_ERROR(StatusOf(cudaGetDeviceCount(&num_devices), "cudaGetDeviceCount"));
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
  return DeviceBuffer(this, data, num_bytes);
}

// Waits for the device, so work issued on the buffer ends first. A failure repeats a fault that
// Synchronize() has reported.
void CudaDevice::Free(void* data, int64_t) {
  if (MakeCurrent().ok()) static_cast<void>(cudaFree(data));
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
  COMET_RETURN_IF_ERROR(MakeCurrent());
  COMET_RETURN_IF_ERROR(
      StatusOf(cudaMemcpyAsync(destination, source, static_cast<size_t>(num_bytes),
                               cudaMemcpyHostToDevice, HandleOf(stream_)),
               "cudaMemcpyAsync"));
  return Synchronize();
}

Status CudaDevice::CopyToHost(void* destination, const void* source, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(MakeCurrent());
  COMET_RETURN_IF_ERROR(
      StatusOf(cudaMemcpyAsync(destination, source, static_cast<size_t>(num_bytes),
                               cudaMemcpyDeviceToHost, HandleOf(stream_)),
               "cudaMemcpyAsync"));
  return Synchronize();
}

Status CudaDevice::FillZero(void* destination, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  COMET_RETURN_IF_ERROR(MakeCurrent());
  return StatusOf(
      cudaMemsetAsync(destination, 0, static_cast<size_t>(num_bytes), HandleOf(stream_)),
      "cudaMemsetAsync");
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
