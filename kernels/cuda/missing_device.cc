#include "kernels/cuda/missing_device.h"

#include <string>

#include "kernels/base/str_cat.h"

namespace comet::cuda {
namespace {

std::string Text(int version) { return StrCat("CUDA ", version / 1000, ".", version % 1000 / 10); }

}  // namespace

Status MissingDevice(int driver_version, int runtime_version) {
  if (driver_version == 0) {
    return Internal(StrCat("cuda_device: no NVIDIA driver answers, expected one for ",
                           Text(runtime_version), " or later"));
  }
  if (driver_version < runtime_version) {
    return Internal(StrCat("cuda_device: the NVIDIA driver is for ", Text(driver_version),
                           ", expected ", Text(runtime_version), " or later: update it"));
  }
  return Internal("cuda_device: the NVIDIA driver shows no GPU, expected at least one");
}

}  // namespace comet::cuda
