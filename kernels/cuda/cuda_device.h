#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/device.h"

namespace comet {

// One GPU's memory and its stream. Threads as in kernels/device.h. Every error of the CUDA runtime
// but lack of memory is kInternal, names the call, and leaves the context unusable.
class CudaDevice final : public Device {
 public:
  // Errors: kInternal: no driver, no such device, or it does not answer.
  static Result<std::unique_ptr<CudaDevice>> Create(int device_idx);

  std::string_view description() const override { return description_; }
  bool is_host() const override { return false; }
  bool is_asynchronous() const override { return true; }
  // The stream that copies and ops use.
  const CudaStream& stream() const { return stream_; }
  int num_sms() const { return num_sms_; }
  // The runtime's current device is a thread's: each call that needs one states its own.
  Status MakeCurrent() const;

  Result<DeviceBuffer> Allocate(int64_t num_bytes) override;
  Result<DeviceBuffer> AllocateStaging(int64_t num_bytes) override;
  Result<DeviceMemory> QueryMemory() override;
  Status CopyToDevice(void* destination, const void* source, int64_t num_bytes) override;
  Status CopyToHost(void* destination, const void* source, int64_t num_bytes) override;
  Status StartCopyToDevice(void* destination, const void* staging, int64_t num_bytes) override;
  Status StartCopyToHost(void* staging, const void* source, int64_t num_bytes) override;
  Status FillZero(void* destination, int64_t num_bytes) override;
  Result<std::unique_ptr<DeviceEvent>> CreateEvent() override;
  Result<std::unique_ptr<DeviceGraph>> Capture(const std::function<Status()>& issue) override;
  Status Synchronize() override;
  Status MarkTime(int mark_idx) override;
  Result<double> MicrosecondsBetween(int begin_idx, int end_idx) override;

 private:
  CudaDevice(int device_idx, std::string description, int num_sms, CudaStream stream)
      : device_idx_(device_idx),
        description_(std::move(description)),
        num_sms_(num_sms),
        stream_(std::move(stream)) {}

  void Free(void* data, int64_t num_bytes, MemoryKind kind) override;

  const int device_idx_;
  const std::string description_;
  const int num_sms_;
  const CudaStream stream_;
  std::vector<CudaEvent> marks_;  // Grows to those in use.
};

}  // namespace comet
