#include <gtest/gtest.h>

#include <string>

#include <nlohmann/json.hpp>

#include "engine/config/config_json.h"
#include "engine/config/engine_config.h"

namespace comet {
namespace {

Status Parse(std::string_view text, EngineConfig& config) {
  COMET_ASSIGN_OR_RETURN(const nlohmann::json parsed, ParseConfigText("test.json", text));
  return ParseEngineConfig(parsed, "engine", config);
}

std::string FaultsOf(std::string_view text) {
  EngineConfig config;
  const Status status = Parse(text, config);
  return status.ok() ? "" : status.message();
}

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

TEST(ConfigJson, ReadsFieldsAndKeepsTheOthers) {
  EngineConfig config;

  const Status status = Parse(R"({
    // Tokens of a step.
    "scheduler": {"step_tokens_max": 128, "aging_ms": 7},
    "kv_cache": {"bytes_max": 8589934592, "memory_fraction": 1},  /* all of it */
    "stall_ms_max": 5,
    "works_ahead": false
  })",
                              config);

  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(config.scheduler.step_tokens_max, 128);
  EXPECT_EQ(config.scheduler.aging_ms, 7);
  EXPECT_EQ(config.scheduler.choices_max, SchedulerConfig{}.choices_max);
  EXPECT_EQ(config.kv_cache.bytes_max, int64_t{8589934592});
  EXPECT_EQ(config.kv_cache.memory_fraction, 1.0);
  EXPECT_EQ(config.stall_ms_max, 5);
  EXPECT_FALSE(config.works_ahead);
  EXPECT_TRUE(config.decode_graphs);
}

TEST(ConfigJson, NamesThePathOfAnUnknownKey) {
  EXPECT_EQ(FaultsOf(R"({"scheduler": {"step_tokens": 1}, "kv": 2})"),
            "engine.scheduler.step_tokens is not an option\nengine.kv is not an option");
}

TEST(ConfigJson, NamesThePathOfAWrongType) {
  EXPECT_EQ(FaultsOf(R"({"scheduler": {"aging_ms": "7"}})"),
            "engine.scheduler.aging_ms is a JSON string, expected an integer");
  EXPECT_EQ(FaultsOf(R"({"stall_ms_max": 1.5})"),
            "engine.stall_ms_max is a JSON number, expected an integer");
  EXPECT_EQ(FaultsOf(R"({"stall_ms_max": true})"),
            "engine.stall_ms_max is a JSON boolean, expected an integer");
  EXPECT_EQ(FaultsOf(R"({"kv_cache": {"memory_fraction": null}})"),
            "engine.kv_cache.memory_fraction is a JSON null, expected a number");
  EXPECT_EQ(FaultsOf(R"({"scheduler": []})"),
            "engine.scheduler is a JSON array, expected an object");
}

TEST(ConfigJson, RefusesNumbersBeyondTheType) {
  EXPECT_EQ(FaultsOf(R"({"stall_ms_max": 4294967296})"),
            "engine.stall_ms_max is 4294967296, expected -2147483648 to 2147483647");
  EXPECT_EQ(FaultsOf(R"({"kv_cache": {"bytes_max": 18446744073709551615}})"),
            "engine.kv_cache.bytes_max is 18446744073709551615, expected at most "
            "9223372036854775807");
}

TEST(ConfigJson, SaysWhereTheTextIsNotJson) {
  const Status status = ParseConfigText("test.json", "{\n\"a\": }").status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("test.json"), std::string::npos);
  EXPECT_NE(status.message().find("line 2"), std::string::npos) << status;
}

TEST(ConfigJson, RefusesATextThatIsNoObject) {
  EXPECT_EQ(ParseConfigText("test.json", "[1]").status().message(),
            "test.json: the file is a JSON array, expected an object");
}

TEST(ConfigJson, ReadsWhatItPrints) {
  EngineConfig config;
  config.scheduler = {.step_tokens_max = 1,
                      .running_sequences_max = 2,
                      .waiting_sequences_max = 3,
                      .waiting_tokens_max = 4,
                      .choices_max = 5,
                      .request_deadline_ms = 6,
                      .aging_ms = 7};
  config.kv_cache = {.bytes_max = 8, .memory_fraction = 0.25};
  config.context_length_max = 9;
  config.stall_ms_max = 10;
  EngineConfig read;

  const Status status = Parse(ToJson(config).dump(2), read);

  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(ToJson(read).dump(), ToJson(config).dump());
  EXPECT_EQ(read.scheduler.aging_ms, 7);
  EXPECT_EQ(read.stall_ms_max, 10);
}

}  // namespace
}  // namespace comet
