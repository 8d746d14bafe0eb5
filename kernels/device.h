#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"

namespace comet {

class Device;

inline constexpr int64_t kDeviceAlignment = 256;  // Bytes, of what a device allocates.

enum class MemoryKind {
  kDevice,
  kStaging,  // Host memory that the device's copies use while the host goes on.
};

// Owns one allocation of a Device and gives it back. Movable. The device outlives it.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device* device, void* data, int64_t num_bytes, MemoryKind kind)
      : device_(device), data_(data), num_bytes_(num_bytes), kind_(kind) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(num_bytes_, other.num_bytes_);
    std::swap(kind_, other.kind_);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer();

  void* data() const { return data_; }
  int64_t num_bytes() const { return num_bytes_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  int64_t num_bytes_ = 0;
  MemoryKind kind_ = MemoryKind::kDevice;
};

// A point in a device's stream. The device outlives it.
class DeviceEvent {
 public:
  virtual ~DeviceEvent() = default;
  // Marks everything issued so far; an earlier mark is forgotten.
  virtual Status Record() = 0;
  // Returns once what was marked is done, with its faults; at once where nothing was marked.
  virtual Status Wait() = 0;
};

// Work of a device, captured once and issued again by one call. The device outlives it.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual Status Launch() = 0;
};

struct DeviceMemory {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  // What Allocate() can still give, cgroup limits included.
};

// One device's memory and its one in-order stream: copies and ops run in the order of the calls.
// Confined to the step thread after start-up; Allocate() and destruction may come from any thread.
class Device {
 public:
  virtual ~Device() = default;

  // "cpu (avx512vnni, 2 threads)", "cuda:0 (NVIDIA H100 80GB HBM3, sm_90)".
  virtual std::string_view description() const = 0;
  // Whether a host pointer may be dereferenced as device memory.
  virtual bool is_host() const = 0;
  // Whether ops and started copies run on after the calls return, so that the host gains by working
  // ahead; only then can work be captured.
  virtual bool is_asynchronous() const = 0;

  // Uninitialised memory at a multiple of kDeviceAlignment. Errors: kResourceExhausted with both
  // sizes.
  virtual Result<DeviceBuffer> Allocate(int64_t num_bytes) = 0;
  // The same in host memory, for the copies that are only started.
  virtual Result<DeviceBuffer> AllocateStaging(int64_t num_bytes) = 0;
  virtual Result<DeviceMemory> QueryMemory() = 0;

  // `source` may be reused once the call returns.
  virtual Status CopyToDevice(void* destination, const void* source, int64_t num_bytes) = 0;
  // `destination` is filled once the call returns.
  virtual Status CopyToHost(void* destination, const void* source, int64_t num_bytes) = 0;
  // As above without waiting: `staging` is left alone until an event recorded behind the copy has
  // passed.
  virtual Status StartCopyToDevice(void* destination, const void* staging, int64_t num_bytes) = 0;
  virtual Status StartCopyToHost(void* staging, const void* source, int64_t num_bytes) = 0;
  virtual Status FillZero(void* destination, int64_t num_bytes) = 0;
  virtual Result<std::unique_ptr<DeviceEvent>> CreateEvent() = 0;
  // Runs `issue`, which only calls ops, and keeps that work instead of doing it. The memory it
  // names stays while the graph lives. Errors: `issue`'s; kUnimplemented where !is_asynchronous().
  virtual Result<std::unique_ptr<DeviceGraph>> Capture(const std::function<Status()>& issue) = 0;
  // Waits for everything issued so far and reports its faults.
  virtual Status Synchronize() = 0;

  // Notes when the stream gets here, as mark `mark_idx`, 0 to kTimeMarksMax - 1; any may be set
  // again. For profiles: a mark costs microseconds.
  static constexpr int kTimeMarksMax = 1 << 14;
  virtual Status MarkTime(int mark_idx) = 0;
  // From one mark to another, both set; waits for both.
  virtual Result<double> MicrosecondsBetween(int begin_idx, int end_idx) = 0;

 protected:
  friend class DeviceBuffer;
  virtual void Free(void* data, int64_t num_bytes, MemoryKind kind) = 0;
};

inline DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) device_->Free(data_, num_bytes_, kind_);
}

}  // namespace comet
