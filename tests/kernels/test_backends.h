#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels/make_backend.h"

namespace comet {

// Every back end this build has but the reference: the host's with each instruction set this
// machine can run, with one and with two threads, and cuda, whose tests skip where no GPU answers
// (COMET_END_WITHOUT_GPU).
std::vector<BackendOptions> TestedBackends();

// "cpu_avx2_2_threads", "cuda"
std::string NameOf(const ::testing::TestParamInfo<BackendOptions>& info);

// The ops all others are held to.
Ops& reference_ops();

// Ends a test or SetUp() that found no GPU: by a skip, or where COMET_REQUIRE_GPU is set, as
// scripts/test_gpu.sh does, by a failure.
#define COMET_END_WITHOUT_GPU(status)                                                          \
  do {                                                                                         \
    if (std::getenv("COMET_REQUIRE_GPU") != nullptr) FAIL() << "no GPU answers: " << (status); \
    GTEST_SKIP() << "no GPU answers: " << (status);                                            \
  } while (false)

// Instantiates the tests of `suite` for every tested back end.
#define COMET_INSTANTIATE_FOR_BACKENDS(suite) \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(TestedBackends()), NameOf)

// The tested back end, made from the test's parameter. Its ops take tensors in host memory, also
// where the device cannot (StagedOps).
class BackendTest : public ::testing::TestWithParam<BackendOptions> {
 protected:
  void SetUp() override;
  Ops& tested_ops() { return staged_ops_ != nullptr ? *staged_ops_ : *backend_.ops; }
  bool is_cuda() const { return GetParam().device == "cuda"; }

 private:
  Backend backend_;
  std::unique_ptr<Ops> staged_ops_;  // Where the device is no host.
};

}  // namespace comet
