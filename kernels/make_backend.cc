#include "kernels/make_backend.h"

#include "kernels/base/str_cat.h"
#include "kernels/host/host_device.h"
#include "kernels/reference/reference_ops.h"

namespace comet {
namespace {

constexpr int kThreadsMax = 1024;

Result<Backend> MakeReferenceBackend() {
  return Backend{.device = std::make_unique<HostDevice>("reference (scalar)"),
                 .ops = std::make_unique<ReferenceOps>()};
}

}  // namespace

Status BackendOptions::Validate() const {
  if (device != "cpu" && device != "reference" && device != "cuda") {
    return InvalidArgument(
        StrCat("backend: device is '", device, "', expected cpu, reference or cuda"));
  }
  if (cpu_isa != "auto" && cpu_isa != "scalar" && cpu_isa != "avx2" && cpu_isa != "avx512vnni") {
    return InvalidArgument(
        StrCat("backend: cpu_isa is '", cpu_isa, "', expected auto, scalar, avx2 or avx512vnni"));
  }
  if (num_threads < 0 || num_threads > kThreadsMax) {
    return InvalidArgument(
        StrCat("backend: num_threads is ", num_threads, ", expected 0 to ", kThreadsMax));
  }
  return Status::Ok();
}

Result<Backend> MakeBackend(const BackendOptions& options) {
  COMET_RETURN_IF_ERROR(options.Validate());
  if (options.device == "reference") return MakeReferenceBackend();
  return Unimplemented(StrCat("backend: this build has no ", options.device));
}

}  // namespace comet
