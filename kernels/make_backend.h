#pragma once

#include <memory>
#include <string>

#include "kernels/base/status.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace comet {

struct BackendOptions {
  std::string device = "cpu";    // cpu | reference | cuda
  std::string cpu_isa = "auto";  // auto | scalar | avx2 | avx512vnni; cpu only
  int num_threads = 0;           // cpu only; 0: what the cgroup allows

  Status Validate() const;
};

// The ops of one device. `ops` refers to `device`.
struct Backend {
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;
};

// Errors: kInvalidArgument (an unknown name), kUnimplemented (not in this build), kInternal (the
// device does not answer).
Result<Backend> MakeBackend(const BackendOptions& options);

}  // namespace comet
