#include "tests/kernels/test_backends.h"

#include "kernels/base/str_cat.h"
#include "kernels/cpu/isa.h"
#include "tests/kernels/staged_ops.h"

namespace comet {

std::vector<BackendOptions> TestedBackends() {
  std::vector<BackendOptions> backends;
  for (const cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512Vnni}) {
    if (!cpu::IsSupported(isa)) continue;
    for (const int num_threads : {1, 2}) {
      backends.push_back({.device = "cpu",
                          .cpu_isa = std::string(cpu::ToString(isa)),
                          .num_threads = num_threads});
    }
  }
  // A build without CUDA says so without looking for a device.
  const Result<Backend> cuda = MakeBackend({.device = "cuda"});
  if (cuda.ok() || cuda.status().code() != StatusCode::kUnimplemented) {
    backends.push_back({.device = "cuda"});
  }
  return backends;
}

std::string NameOf(const ::testing::TestParamInfo<BackendOptions>& info) {
  const BackendOptions& options = info.param;
  if (options.device == "cuda") return options.device;
  return StrCat(options.device, "_", options.cpu_isa, "_", options.num_threads, "_threads");
}

Ops& reference_ops() {
  static Backend* const backend = new Backend(MakeBackend({.device = "reference"}).value());
  return *backend->ops;
}

void BackendTest::SetUp() {
  Result<Backend> backend = MakeBackend(GetParam());
  if (is_cuda() && !backend.ok()) COMET_END_WITHOUT_GPU(backend.status().message());
  backend_ = std::move(backend).value();
  if (!backend_.device->is_host()) {
    staged_ops_ = std::make_unique<StagedOps>(*backend_.device, *backend_.ops);
  }
}

}  // namespace comet
