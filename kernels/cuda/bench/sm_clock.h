#pragma once

#include "kernels/base/status.h"

namespace comet::cuda {

// Reads the card's SM clock through NVML, the driver's library, opened at run time. Movable.
class SmClock {
 public:
  // Errors: kNotFound: no NVML; kInternal: it knows no such card.
  static Result<SmClock> Open(int device_idx);

  SmClock(SmClock&& other) noexcept { *this = static_cast<SmClock&&>(other); }
  SmClock& operator=(SmClock&& other) noexcept;
  SmClock(const SmClock&) = delete;
  SmClock& operator=(const SmClock&) = delete;
  ~SmClock();

  // 0 where the driver does not say.
  double Mhz() const;

 private:
  SmClock() = default;

  void* library_ = nullptr;
  void* card_ = nullptr;       // nvmlDevice_t
  void* get_clock_ = nullptr;  // nvmlDeviceGetClockInfo
};

}  // namespace comet::cuda
