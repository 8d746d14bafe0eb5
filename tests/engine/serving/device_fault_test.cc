// A device that fails in the middle of serving: real ops behind a fault that the test switches on.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <utility>

#include "kernels/forwarding_ops.h"
#include "tests/engine/serving/serving_fixture.h"

namespace comet {
namespace {

// Until the fault is on; then attention or sampling answers kInternal.
class FaultyOps final : public ForwardingOps {
 public:
  FaultyOps(std::unique_ptr<Ops> ops, const std::atomic<bool>& attention_fails,
            const std::atomic<bool>& sample_fails)
      : ForwardingOps(std::move(ops)),
        attention_fails_(attention_fails),
        sample_fails_(sample_fails) {}

  Status Attention(const AttentionArgs& args) override {
    if (attention_fails_) return Internal("attention: the device fell off the bus");
    return ForwardingOps::Attention(args);
  }
  Status Sample(const SampleArgs& args) override {
    if (sample_fails_) return Internal("sample: the device fell off the bus");
    return ForwardingOps::Sample(args);
  }

 private:
  const std::atomic<bool>& attention_fails_;
  const std::atomic<bool>& sample_fails_;
};

// Whether the engine works ahead of its device.
class DeviceFaultTest : public testing::TestWithParam<bool> {
 protected:
  // A test that failed half-way must not leave the step thread held.
  ~DeviceFaultTest() override { gate_.Open(); }

  Result<std::unique_ptr<Engine>> Start() {
    const std::unique_ptr<FloatSource> source = MakeRandomSource();
    COMET_ASSIGN_OR_RETURN(Backend backend, MakeBackend({.device = "reference"}));
    backend.ops =
        std::make_unique<FaultyOps>(std::move(backend.ops), attention_fails_, sample_fails_);
    if (GetParam()) backend = MakeAheadBackend(std::move(backend));
    return StartServing(
        *source, std::move(backend),
        {.config = {.scheduler = {.step_tokens_max = 64, .running_sequences_max = 1}},
         .observer = &gate_});
  }

  // One request runs and one waits when the fault comes.
  void FailInFlight(std::atomic<bool>& fault) {
    Result<std::unique_ptr<Engine>> engine = Start();
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(engine).value();
    gate_.Shut();
    auto running = engine_->Submit(GreedyRequest({1, 10, 20}, 200));
    ASSERT_TRUE(gate_.WaitUntilHeld());
    auto waiting = engine_->Submit(GreedyRequest({1, 10, 20}, 200));
    fault = true;
    gate_.Open();

    const ChoiceOutput running_output = ReadAll(**running)[0];
    const ChoiceOutput waiting_output = ReadAll(**waiting)[0];

    EXPECT_EQ(running_output.finish_reason, FinishReason::kError);
    EXPECT_EQ(running_output.token_ids.size(), 1u);
    EXPECT_NE(running_output.status.message().find("fell off the bus"), std::string::npos);
    EXPECT_EQ(waiting_output.finish_reason, FinishReason::kError);
    EXPECT_EQ(engine_->stats().num_pages_used, 0);
  }

  std::atomic<bool> attention_fails_{false};
  std::atomic<bool> sample_fails_{false};
  StepGate gate_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(DeviceFaultTest, FailedForwardFailsEverythingInFlight) { FailInFlight(attention_fails_); }

TEST_P(DeviceFaultTest, FailedSamplingFailsEverythingInFlight) { FailInFlight(sample_fails_); }

TEST_P(DeviceFaultTest, AnOpThatFailsIsToldAtTheStart) {
  for (std::atomic<bool>* fault : {&attention_fails_, &sample_fails_}) {
    *fault = true;

    const Status status = Start().status();

    EXPECT_EQ(status.code(), StatusCode::kInternal);
    EXPECT_NE(status.message().find("fell off the bus"), std::string::npos) << status;
    *fault = false;
  }
}

// As a device does whose attention of chunks has no kernel of the model's shape.
class DecodeOnlyOps final : public ForwardingOps {
 public:
  using ForwardingOps::ForwardingOps;

  Status Attention(const AttentionArgs& args) override {
    if (args.batch.query_length_max > 1) return Unimplemented("attention: no chunks");
    return ForwardingOps::Attention(args);
  }
};

TEST(StartEngine, TellsThatAKernelOfPromptsIsMissing) {
  const std::unique_ptr<FloatSource> source = MakeRandomSource();
  Result<Backend> backend = MakeBackend({.device = "reference"});
  ASSERT_TRUE(backend.ok()) << backend.status();
  backend->ops = std::make_unique<DecodeOnlyOps>(std::move(backend->ops));

  const Status status = StartServing(*source, std::move(backend).value(), {}).status();

  EXPECT_EQ(status, Unimplemented("engine: its first step failed: attention: no chunks"));
}

TEST_P(DeviceFaultTest, TheStepsOfTheStartCountNowhere) {
  gate_.Shut();  // A step that is reported would wait here.

  const Result<std::unique_ptr<Engine>> engine = Start();

  ASSERT_TRUE(engine.ok()) << engine.status();
  const EngineStats stats = (*engine)->stats();
  EXPECT_EQ(stats.steps_total, 0);
  EXPECT_EQ(stats.prompt_tokens_total, 0);
  EXPECT_EQ(stats.generation_tokens_total, 0);
  EXPECT_EQ(stats.num_pages_used, 0);
  EXPECT_TRUE((*engine)->CheckReady().ok());
}

TEST_P(DeviceFaultTest, RefusesWorkAndReadinessAfterwards) {
  FailInFlight(attention_fails_);
  attention_fails_ = false;  // A poisoned context does not heal.

  const Status submitted = engine_->Submit(GreedyRequest({1, 10, 20}, 5)).status();

  EXPECT_EQ(submitted.code(), StatusCode::kUnavailable);
  EXPECT_NE(submitted.message().find("fell off the bus"), std::string::npos) << submitted;
  EXPECT_EQ(engine_->CheckReady().code(), StatusCode::kUnavailable);
  EXPECT_EQ(engine_->CheckDevice(), engine_->CheckReady()) << "what the daemon ends with";
  engine_->BeginDrain();
  EXPECT_TRUE(engine_->WaitDrained(std::chrono::milliseconds(1000)));
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceFaultTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& instance) {
                           return instance.param ? "Ahead" : "Host";
                         });

}  // namespace
}  // namespace comet
