#include "kernels/cuda/missing_device.h"

#include <gtest/gtest.h>

namespace comet::cuda {
namespace {

TEST(MissingDevice, SaysWhatIsMissing) {
  EXPECT_EQ(MissingDevice(0, 13000).message(),
            "cuda_device: no NVIDIA driver answers, expected one for CUDA 13.0 or later");
  EXPECT_EQ(
      MissingDevice(12040, 13000).message(),
      "cuda_device: the NVIDIA driver is for CUDA 12.4, expected CUDA 13.0 or later: update it");
  EXPECT_EQ(MissingDevice(13010, 13000).message(),
            "cuda_device: the NVIDIA driver shows no GPU, expected at least one");
}

}  // namespace
}  // namespace comet::cuda
