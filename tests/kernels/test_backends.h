#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/make_backend.h"

namespace comet {

// Every host back end this machine can run but the reference: each instruction set with one and
// with two threads.
std::vector<BackendOptions> TestedBackends();

// "cpu_avx2_2_threads"
std::string NameOf(const ::testing::TestParamInfo<BackendOptions>& info);

// The ops all others are held to.
Ops& reference_ops();

// Instantiates the tests of `suite` for every tested back end.
#define COMET_INSTANTIATE_FOR_BACKENDS(suite) \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(TestedBackends()), NameOf)

// The tested back end, made from the test's parameter.
class BackendTest : public ::testing::TestWithParam<BackendOptions> {
 protected:
  BackendTest() : backend_(MakeBackend(GetParam()).value()) {}
  Ops& tested_ops() { return *backend_.ops; }

 private:
  Backend backend_;
};

}  // namespace comet
