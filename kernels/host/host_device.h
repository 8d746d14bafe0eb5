#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device.h"

namespace comet {

// Host memory as a Device, for the back ends that compute on the host. Ops and copies finish before
// the call returns, so the stream is the calling thread. Threads as in kernels/device.h.
class HostDevice final : public Device {
 public:
  explicit HostDevice(std::string description) : description_(std::move(description)) {}

  std::string_view description() const override { return description_; }
  bool is_host() const override { return true; }
  bool is_asynchronous() const override { return false; }

  Result<DeviceBuffer> Allocate(int64_t num_bytes) override;
  Result<DeviceBuffer> AllocateStaging(int64_t num_bytes) override { return Allocate(num_bytes); }
  Result<DeviceMemory> QueryMemory() override;
  Status CopyToDevice(void* destination, const void* source, int64_t num_bytes) override;
  Status CopyToHost(void* destination, const void* source, int64_t num_bytes) override;
  Status StartCopyToDevice(void* destination, const void* staging, int64_t num_bytes) override {
    return CopyToDevice(destination, staging, num_bytes);
  }
  Status StartCopyToHost(void* staging, const void* source, int64_t num_bytes) override {
    return CopyToHost(staging, source, num_bytes);
  }
  Status FillZero(void* destination, int64_t num_bytes) override;
  Result<std::unique_ptr<DeviceEvent>> CreateEvent() override;
  Result<std::unique_ptr<DeviceGraph>> Capture(const std::function<Status()>& issue) override;
  Status Synchronize() override { return Status::Ok(); }
  Status MarkTime(int mark_idx) override;
  Result<double> MicrosecondsBetween(int begin_idx, int end_idx) override;

 private:
  void Free(void* data, int64_t num_bytes, MemoryKind kind) override;

  const std::string description_;
  std::vector<std::chrono::steady_clock::time_point> marks_;  // Grows to those in use.
};

}  // namespace comet
