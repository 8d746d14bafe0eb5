#include "tests/kernels/test_backends.h"

#include "kernels/base/str_cat.h"
#include "kernels/cpu/isa.h"

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
  return backends;
}

std::string NameOf(const ::testing::TestParamInfo<BackendOptions>& info) {
  const BackendOptions& options = info.param;
  return StrCat(options.device, "_", options.cpu_isa, "_", options.num_threads, "_threads");
}

Ops& reference_ops() {
  static Backend* const backend = new Backend(MakeBackend({.device = "reference"}).value());
  return *backend->ops;
}

}  // namespace comet
