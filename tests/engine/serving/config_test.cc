#include <gtest/gtest.h>

#include <string>

#include "engine/config/engine_config.h"

namespace comet {
namespace {

TEST(EngineConfig, DefaultsAreValid) { EXPECT_TRUE(EngineConfig{}.Validate().ok()); }

TEST(EngineConfig, ReportsEveryFaultAtOnce) {
  EngineConfig config;
  config.scheduler.choices_max = 0;
  config.scheduler.step_tokens_max = 1;
  config.scheduler.running_sequences_max = 2;
  config.kv_cache.memory_fraction = 2.0;
  config.stall_ms_max = 0;

  const std::string message = config.Validate().message();

  EXPECT_EQ(message,
            "scheduler.choices_max is 0, expected at least 1\n"
            "scheduler.step_tokens_max is below running_sequences_max: a step decodes one token of "
            "each\n"
            "kv_cache.memory_fraction is outside [0, 1]\n"
            "engine.stall_ms_max is 0, expected at least 1");
}

TEST(SchedulerConfig, RefusesAnAgingThatLetsARequestStarve) {
  const SchedulerConfig starves = {.request_deadline_ms = 200000, .aging_ms = 10000};
  const SchedulerConfig ages = {.request_deadline_ms = 200001, .aging_ms = 10000};

  EXPECT_EQ(starves.Validate().message(),
            "scheduler.request_deadline_ms is 200000, expected above 200000, the 20 levels of "
            "priority times aging_ms: the lowest could wait behind the highest until its deadline");
  EXPECT_TRUE(ages.Validate().ok()) << ages.Validate();
}

TEST(SchedulerConfig, ChoosesForTheDeviceWhatIsLeftToIt) {
  const SchedulerConfig host = SchedulerConfig{}.ForDevice(/*is_host=*/true);
  const SchedulerConfig gpu = SchedulerConfig{}.ForDevice(/*is_host=*/false);
  const SchedulerConfig few_tokens =
      SchedulerConfig{.step_tokens_max = 16}.ForDevice(/*is_host=*/false);
  const SchedulerConfig many_sequences =
      SchedulerConfig{.running_sequences_max = 4096}.ForDevice(/*is_host=*/true);

  EXPECT_EQ(host.step_tokens_max, 512);
  EXPECT_EQ(host.running_sequences_max, 64);
  EXPECT_EQ(gpu.step_tokens_max, 2048);
  EXPECT_EQ(gpu.running_sequences_max, 512);
  EXPECT_EQ(few_tokens.running_sequences_max, 16);
  EXPECT_EQ(many_sequences.step_tokens_max, 4096);
  EXPECT_TRUE(few_tokens.Validate().ok());
}

TEST(SchedulerConfig, RefusesWhatTheQueueCanNeverTake) {
  const SchedulerConfig config = {.waiting_sequences_max = 4, .waiting_tokens_max = 100};

  EXPECT_TRUE(config.CheckFitsQueue(4, 100).ok());
  EXPECT_EQ(config.CheckFitsQueue(5, 10).message(),
            "request: prompts times choices are 5, expected at most 4, the queue's length");
  EXPECT_EQ(config.CheckFitsQueue(2, 101).message(),
            "request: the prompts of all choices are 101 tokens, expected at most 100, what the "
            "queue holds");
  EXPECT_EQ(config.CheckFitsQueue(5, 10).code(), StatusCode::kInvalidArgument);
}

// Nothing waits before it, whatever its size.
TEST(SchedulerConfig, AlwaysHasAPlaceForOneSequence) {
  const SchedulerConfig config = {.waiting_sequences_max = 0, .waiting_tokens_max = 0};

  EXPECT_TRUE(config.CheckFitsQueue(1, 1000).ok());
  EXPECT_FALSE(config.CheckFitsQueue(2, 1).ok());
}

}  // namespace
}  // namespace comet
