#include "kernels/make_backend.h"

#include "kernels/base/host_limits.h"
#include "kernels/base/str_cat.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/bench/cuda_op_bench.h"
#include "kernels/cuda/make_cuda_backend.h"
#include "kernels/host/host_device.h"
#include "kernels/op_bench.h"
#include "kernels/reference/reference_ops.h"

namespace comet {
namespace {

constexpr int kThreadsMax = 1024;
constexpr int kRepeatsMax = 1000;
constexpr int kHeuristicsMax = 256;

Result<Backend> MakeReferenceBackend() {
  return Backend{.device = std::make_unique<HostDevice>("reference (scalar)"),
                 .ops = std::make_unique<ReferenceOps>()};
}

Result<Backend> MakeCpuBackend(const BackendOptions& options) {
  COMET_ASSIGN_OR_RETURN(const cpu::Isa isa, cpu::ChooseIsa(options.cpu_isa));
  const int num_threads = options.num_threads > 0 ? options.num_threads : ReadHostLimits().num_cpus;
  auto device = std::make_unique<HostDevice>(
      StrCat("cpu (", cpu::ToString(isa), ", ", num_threads, " threads)"));
  auto ops = std::make_unique<CpuOps>(*device, CpuOptions{.isa = isa, .num_threads = num_threads});
  return Backend{.device = std::move(device), .ops = std::move(ops)};
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
  if (options.device == "cpu") return MakeCpuBackend(options);
  return MakeCudaBackend();
}

Status OpBenchOptions::Validate() const {
  if (mode == ActivationMode::kFloat) {
    return InvalidArgument("op_bench: mode is float, expected mixed or int8");
  }
  if (!(int4_share >= 0.0 && int4_share <= 1.0)) {
    return InvalidArgument(StrCat("op_bench: int4_share is ", int4_share, ", expected 0 to 1"));
  }
  if (num_repeats < 1 || num_repeats > kRepeatsMax) {
    return InvalidArgument(
        StrCat("op_bench: num_repeats is ", num_repeats, ", expected 1 to ", kRepeatsMax));
  }
  if (num_heuristics_max < 1 || num_heuristics_max > kHeuristicsMax) {
    return InvalidArgument(StrCat("op_bench: num_heuristics_max is ", num_heuristics_max,
                                  ", expected 1 to ", kHeuristicsMax));
  }
  return Status::Ok();
}

Result<std::unique_ptr<OpBench>> MakeOpBench(const OpBenchOptions& options) {
  COMET_RETURN_IF_ERROR(options.Validate());
  return MakeCudaOpBench(options);
}

}  // namespace comet
