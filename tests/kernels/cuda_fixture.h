#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/test_backends.h"

namespace comet {

// A test on the first GPU, made current; where none answers it ends (COMET_END_WITHOUT_GPU), and
// has no device_.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<CudaDevice>> device = CudaDevice::Create(/*device_idx=*/0);
    if (!device.ok()) COMET_END_WITHOUT_GPU(device.status().message());
    device_ = std::move(device).value();
    ASSERT_EQ(device_->MakeCurrent(), Status::Ok());
    ops_ = CudaOps::Create(*device_).value();
  }

  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaOps> ops_;
};

}  // namespace comet
