#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace comet {

inline std::string EnvironmentOr(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

// Where the shared test data lies: COMET_TEST_DATA, or beside the checkout.
inline std::string TestDataPath(const std::string& file) {
  const std::string source = EnvironmentOr("COMET_SOURCE_DIR", ".");
  return EnvironmentOr("COMET_TEST_DATA", source + "/../shared/data") + "/" + file;
}

// The default model as scripts/fetch_model.sh leaves it.
inline std::string DefaultModelPath() {
  const std::string source = EnvironmentOr("COMET_SOURCE_DIR", ".");
  return EnvironmentOr("COMET_MODEL_GGUF", source + "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
}

// The default model's 4-bit checkpoint.
inline std::string DefaultCheckpointPath() {
  const std::string source = EnvironmentOr("COMET_SOURCE_DIR", ".");
  return EnvironmentOr("COMET_MODEL", source + "/models/SmolLM2-135M-Instruct-comet");
}

inline bool IsContinuousIntegration() { return EnvironmentOr("CI", "") == "true"; }

}  // namespace comet

// Ends the test when `path` is missing: a failure in CI, elsewhere a skip that says so.
#define COMET_REQUIRE_FILE(path)                                           \
  do {                                                                     \
    if (!std::filesystem::exists(path)) {                                  \
      if (::comet::IsContinuousIntegration()) {                            \
        FAIL() << path << " is missing";                                   \
      } else {                                                             \
        GTEST_SKIP() << path << " is missing: set COMET_TEST_DATA or run " \
                     << "scripts/fetch_model.sh";                          \
      }                                                                    \
    }                                                                      \
  } while (false)
