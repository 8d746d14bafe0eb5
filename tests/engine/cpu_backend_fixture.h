#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "kernels/base/status.h"
#include "kernels/make_backend.h"

namespace comet {

// A test that computes on the CPU back end.
template <int kNumThreads>
class CpuBackendTest : public testing::Test {
 protected:
  void SetUp() override {
    Result<Backend> backend = MakeBackend({.device = "cpu", .num_threads = kNumThreads});
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = std::move(backend).value();
  }

  Backend backend_;
};

}  // namespace comet
