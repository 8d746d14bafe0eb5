#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "tests/engine/serving/serving_fixture.h"

namespace comet {

inline const std::vector<int> kPrompt = {1, 10, 20, 30, 40};

// An engine that runs one sequence, so that every other one waits.
inline ServingOptions OneAtATime(SchedulerConfig scheduler = {}) {
  scheduler.step_tokens_max = 64;
  scheduler.running_sequences_max = 1;
  return {.config = {.scheduler = scheduler}};
}

// Starts engines; streams live in the tests, which end before the engine.
class EngineTest : public testing::Test {
 protected:
  // A test that failed half-way must not leave the step thread held.
  ~EngineTest() override { gate_.Open(); }

  void Start(ServingOptions options = {}, const RandomSourceOptions& source_options = {}) {
    engine_.reset();
    const std::unique_ptr<FloatSource> source = MakeRandomSource(source_options);
    if (options.observer == nullptr) options.observer = &gate_;
    Result<std::unique_ptr<Engine>> engine = StartServing(*source, options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(engine).value();
  }

  std::unique_ptr<TokenStream> Submit(Request request) {
    Result<std::unique_ptr<TokenStream>> stream = engine_->Submit(std::move(request));
    EXPECT_TRUE(stream.ok()) << stream.status();
    return stream.ok() ? std::move(stream).value() : nullptr;
  }
  // Its first step waits at the gate when this returns.
  std::unique_ptr<TokenStream> SubmitHeld(Request request) {
    gate_.Shut();
    std::unique_ptr<TokenStream> stream = Submit(std::move(request));
    EXPECT_TRUE(gate_.WaitUntilHeld());
    return stream;
  }
  Status StatusOfSubmit(Request request) { return engine_->Submit(std::move(request)).status(); }
  ChoiceOutput Run(Request request) {
    const std::unique_ptr<TokenStream> stream = Submit(std::move(request));
    return ReadAll(*stream)[0];
  }
  Engine& engine() { return *engine_; }
  StepGate& gate() { return gate_; }

 private:
  StepGate gate_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace comet
