#include "kernels/host/host_device.h"

#include <cstdlib>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/base/host_limits.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Below this an allocation is made without asking what is free: reading the limits takes 0.2 ms,
// and a shortage shows at the large ones.
constexpr int64_t kUnaskedBytes = int64_t{16} << 20;

// What a host device was asked for is done by the time it is marked.
class HostEvent final : public DeviceEvent {
 public:
  Status Record() override { return Status::Ok(); }
  Status Wait() override { return Status::Ok(); }
};

}  // namespace

Result<DeviceBuffer> HostDevice::Allocate(int64_t num_bytes) {
  if (num_bytes < 0) {
    return InvalidArgument(
        StrCat("host_device: num_bytes is ", num_bytes, ", expected at least 0"));
  }
  if (num_bytes == 0) return DeviceBuffer();

  // The kernel grants memory it does not have and kills the process at first touch: ask first.
  const int64_t free_bytes =
      num_bytes < kUnaskedBytes ? kUnaskedBytes : ReadHostLimits().memory_free_bytes;
  void* data = nullptr;
  if (num_bytes <= free_bytes) {
    data = std::aligned_alloc(kDeviceAlignment,
                              static_cast<size_t>(AlignUp(num_bytes, kDeviceAlignment)));
  }
  if (data == nullptr) {
    return ResourceExhausted(StrCat("host_device: an allocation is ", num_bytes,
                                    " bytes, expected at most ", free_bytes, " bytes free"));
  }
  return DeviceBuffer(this, data, num_bytes, MemoryKind::kDevice);
}

Result<DeviceMemory> HostDevice::QueryMemory() {
  const HostLimits limits = ReadHostLimits();
  return DeviceMemory{.total_bytes = limits.memory_total_bytes,
                      .free_bytes = limits.memory_free_bytes};
}

Status HostDevice::CopyToDevice(void* destination, const void* source, int64_t num_bytes) {
  if (num_bytes > 0) std::memcpy(destination, source, static_cast<size_t>(num_bytes));
  return Status::Ok();
}

Status HostDevice::CopyToHost(void* destination, const void* source, int64_t num_bytes) {
  return CopyToDevice(destination, source, num_bytes);
}

Status HostDevice::FillZero(void* destination, int64_t num_bytes) {
  if (num_bytes > 0) std::memset(destination, 0, static_cast<size_t>(num_bytes));
  return Status::Ok();
}

Result<std::unique_ptr<DeviceEvent>> HostDevice::CreateEvent() {
  return std::unique_ptr<DeviceEvent>(std::make_unique<HostEvent>());
}

Result<std::unique_ptr<DeviceGraph>> HostDevice::Capture(const std::function<Status()>&) {
  return Unimplemented(StrCat("capture: ", description_, " has no graphs"));
}

Status HostDevice::MarkTime(int mark_idx) {
  COMET_CHECK(mark_idx >= 0 && mark_idx < kTimeMarksMax);
  const size_t idx = static_cast<size_t>(mark_idx);
  if (idx >= marks_.size()) marks_.resize(idx + 1);
  marks_[idx] = std::chrono::steady_clock::now();
  return Status::Ok();
}

Result<double> HostDevice::MicrosecondsBetween(int begin_idx, int end_idx) {
  const std::chrono::duration<double, std::micro> between =
      marks_.at(static_cast<size_t>(end_idx)) - marks_.at(static_cast<size_t>(begin_idx));
  return between.count();
}

void HostDevice::Free(void* data, int64_t, MemoryKind) { std::free(data); }

}  // namespace comet
