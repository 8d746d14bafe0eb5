#include <gtest/gtest.h>

#include "kernels/cuda/oracle/silu_values.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

TEST(CudaSilu, TheShortDivisionHasADivisionsBitsForEveryGate) {
  const Result<std::unique_ptr<CudaDevice>> device = CudaDevice::Create(/*device_idx=*/0);
  if (!device.ok()) COMET_END_WITHOUT_GPU(device.status().message());

  EXPECT_EQ(cuda::NumSiluGatesThatDiffer(**device).value(), 0);
}

}  // namespace
}  // namespace comet
