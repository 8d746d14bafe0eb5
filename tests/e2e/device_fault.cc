// A shared library to preload into a daemon on a GPU: when the file named by COMET_FAULT_FILE
// appears, a kernel that writes to no valid address runs in the daemon's own context, which poisons
// it as a fault of one of its own kernels would. tests/e2e/device_fault.py uses it.
#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(10);
constexpr const char* kPtx = R"(
.version 7.0
.target sm_80
.address_size 64
.visible .entry fault() {
  .reg .u64 %address;
  .reg .u32 %value;
  mov.u64 %address, 64;
  mov.u32 %value, 1;
  st.global.u32 [%address], %value;
  ret;
}
)";

// The driver's functions, by their exported names; every result 0 is success.
template <typename... Args>
bool Call(void* driver, const char* name, Args... args) {
  using Function = int (*)(Args...);
  const auto function = reinterpret_cast<Function>(dlsym(driver, name));
  const int result = function == nullptr ? -1 : function(args...);
  if (result != 0) std::fprintf(stderr, "device_fault: %s is %d\n", name, result);
  return result == 0;
}

void RunFaultyKernel() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  int device = 0;
  void* context = nullptr;
  void* module = nullptr;
  void* function = nullptr;
  if (driver == nullptr || !Call(driver, "cuDeviceGet", &device, 0) ||
      !Call(driver, "cuDevicePrimaryCtxRetain", &context, device) ||
      !Call(driver, "cuCtxSetCurrent", context) ||
      !Call(driver, "cuModuleLoadData", &module, static_cast<const void*>(kPtx)) ||
      !Call(driver, "cuModuleGetFunction", &function, module, "fault")) {
    return;
  }
  void* const no_stream = nullptr;
  void** const no_arguments = nullptr;
  Call(driver, "cuLaunchKernel", function, 1u, 1u, 1u, 1u, 1u, 1u, 0u, no_stream, no_arguments,
       no_arguments);
}

struct FaultThread {
  FaultThread() {
    const char* const path = std::getenv("COMET_FAULT_FILE");
    if (path == nullptr) return;
    std::thread([path] {
      while (access(path, F_OK) != 0) std::this_thread::sleep_for(kPollInterval);
      RunFaultyKernel();
    }).detach();
  }
};

const FaultThread fault_thread;

}  // namespace
