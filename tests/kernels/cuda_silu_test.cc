#include <gtest/gtest.h>

#include "kernels/cuda/oracle/silu_values.h"
#include "tests/kernels/test_backends.h"

namespace comet {
namespace {

TEST(CudaSilu, TheShortDivisionHasADivisionsBitsForEveryGate) {
  const Result<std::unique_ptr<CudaDevice>> device = CudaDevice::Create(/*device_idx=*/0);
  if (!device.ok()) COMET_END_WITHOUT_GPU(device.status().message());

  const cuda::SiluGates gates = cuda::CompareSiluGates(**device).value();
  EXPECT_EQ(gates.num_compared, 2 * (0x5500 + 1));  // 0x5500 is 80.
  EXPECT_EQ(gates.num_different, 0);
}

}  // namespace
}  // namespace comet
