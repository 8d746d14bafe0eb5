#pragma once

#include <memory>
#include <utility>

#include "engine/loader/float_source.h"
#include "tests/engine/cpu_backend_fixture.h"
#include "tests/engine/test_data.h"

namespace comet {

// A test of stories260K, a small trained LLaMA, on the CPU back end.
class StoriesTest : public CpuBackendTest<2> {
 protected:
  void SetUp() override {
    const std::string path = TestDataPath("models/stories260K.gguf");
    COMET_REQUIRE_FILE(path);
    CpuBackendTest::SetUp();
    Result<std::unique_ptr<FloatSource>> source = FloatSource::Open(path);
    ASSERT_TRUE(source.ok()) << source.status();
    stories_ = std::move(source).value();
  }

  std::unique_ptr<FloatSource> stories_;
};

}  // namespace comet
