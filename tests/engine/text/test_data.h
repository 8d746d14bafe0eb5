#pragma once

#include <string>

namespace comet {

// The folder of real test data: COMET_TEST_DATA, or shared/data beside the source folder.
std::string TestDataPath(const std::string& relative);

bool HasTestData(const std::string& relative);

// With CI=true missing data must fail the test instead of skipping it.
bool RunsInCi();

// The whole file; aborts when it cannot be read.
std::string ReadTestFile(const std::string& path);

}  // namespace comet

// Leaves the test when a file of the test data is missing.
#define COMET_NEED_TEST_DATA(relative)                                        \
  do {                                                                        \
    if (!::comet::HasTestData(relative)) {                                    \
      if (::comet::RunsInCi()) FAIL() << "missing test data: " << (relative); \
      GTEST_SKIP() << "no test data: " << ::comet::TestDataPath(relative)     \
                   << " (set COMET_TEST_DATA)";                               \
    }                                                                         \
  } while (false)
