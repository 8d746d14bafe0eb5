#include "kernels/cuda/bench/sm_clock.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <utility>

#include "kernels/base/str_cat.h"
#include "kernels/cuda/cuda_status.h"

namespace comet::cuda {
namespace {

// NVML's interface has been stable since its first release; its header is in another package.
constexpr int kNvmlSuccess = 0;
constexpr int kNvmlClockSm = 1;
using NvmlInit = int (*)();
using NvmlGetHandle = int (*)(const char* bus_id, void** card);
using NvmlGetClock = int (*)(void* card, int type, unsigned* mhz);

template <typename Function>
Function Find(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

}  // namespace

Result<SmClock> SmClock::Open(int device_idx) {
  SmClock clock;
  clock.library_ = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (clock.library_ == nullptr) return NotFound(StrCat("sm_clock: ", dlerror()));
  const auto init = Find<NvmlInit>(clock.library_, "nvmlInit_v2");
  const auto get_handle = Find<NvmlGetHandle>(clock.library_, "nvmlDeviceGetHandleByPciBusId_v2");
  clock.get_clock_ = dlsym(clock.library_, "nvmlDeviceGetClockInfo");
  if (init == nullptr || get_handle == nullptr || clock.get_clock_ == nullptr) {
    return NotFound("sm_clock: libnvidia-ml.so.1 lacks a function");
  }
  char bus_id[32] = {};
  COMET_RETURN_IF_ERROR(
      StatusOf(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), device_idx), "cudaDeviceGetPCIBusId"));
  if (init() != kNvmlSuccess || get_handle(bus_id, &clock.card_) != kNvmlSuccess) {
    return Internal(StrCat("sm_clock: NVML does not know the card ", bus_id));
  }
  return clock;
}

SmClock& SmClock::operator=(SmClock&& other) noexcept {
  std::swap(library_, other.library_);
  std::swap(card_, other.card_);
  std::swap(get_clock_, other.get_clock_);
  return *this;
}

SmClock::~SmClock() {
  if (library_ != nullptr) dlclose(library_);
}

double SmClock::Mhz() const {
  unsigned mhz = 0;
  const auto get_clock = reinterpret_cast<NvmlGetClock>(get_clock_);
  return get_clock(card_, kNvmlClockSm, &mhz) == kNvmlSuccess ? mhz : 0.0;
}

}  // namespace comet::cuda
