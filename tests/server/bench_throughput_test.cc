#include "server/commands/bench_throughput.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>

#include "server/commands/throughput_report.h"

namespace comet {
namespace {

// A folder of its own for each test, as tests run beside each other.
class BenchThroughputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              (std::string("comet_bench_") +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    std::ofstream(PathOf("tiny.json"))
        << R"({"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2,
               "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 384,
               "vocab_size": 300, "max_position_embeddings": 128})";
    options_.synthetic = PathOf("tiny.json");
    options_.num_input_tokens = 20;
    options_.num_output_tokens = 6;
    options_.running_sequences_max = 3;
    options_.num_requests = 7;
    options_.step_tokens_max = 32;
    options_.backend.num_threads = 2;
    options_.json = PathOf("run.json");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string PathOf(const std::string& file) const { return (folder_ / file).string(); }
  std::string Read(const std::string& file) const {
    std::stringstream text;
    text << std::ifstream(PathOf(file)).rdbuf();
    return text.str();
  }

  std::filesystem::path folder_;
  BenchThroughputOptions options_;
};

TEST_F(BenchThroughputTest, MeasuresTheWholeRunAndProfilesASyntheticModel) {
  options_.svg = PathOf("run.svg");

  const Status status = RunBenchThroughput(options_);

  ASSERT_EQ(status, Status::Ok());
  const nlohmann::json json = nlohmann::json::parse(Read("run.json"));
  EXPECT_EQ(json.at("num_requests"), 7);
  EXPECT_EQ(json.at("running_sequences_max"), 3);
  const nlohmann::json& apart = json.at("not_the_claim");  // As 7 requests are too few.
  EXPECT_NEAR(
      apart.at("output_tokens_per_second").get<double>() * json.at("run_seconds").get<double>(),
      7 * 6, 1e-6);
  EXPECT_TRUE(apart.contains("steady_state"));
  ASSERT_EQ(json.at("profiles").size(), 2u);
  const nlohmann::json& decode = json.at("profiles")[0];
  EXPECT_EQ(decode.at("num_tokens"), 3);
  EXPECT_EQ(decode.at("context_length"), 23);
  double products_us = 0;
  int num_products = 0;
  for (const nlohmann::json& entry : decode.at("classes")) {
    if (!entry.at("op").get<std::string>().starts_with("w4ax")) continue;
    products_us += entry.at("us").get<double>();
    num_products += entry.at("num_calls").get<int>();
  }
  EXPECT_EQ(num_products, 2 * 4);
  EXPECT_GT(products_us, 0.0);
  EXPECT_NE(Read("run.svg").find("</svg>"), std::string::npos);
}

TEST(OwnUsMax, CountsIssuingWithNoMoreThanOnAnIdleDevice) {
  ThroughputResult result;
  result.profiles.resize(2);
  result.profiles[0].issue_us = 300;
  result.profiles[1].issue_us = 500;
  result.host_us = 1000;
  result.issue_us = 900;
  EXPECT_EQ(OwnUsMax(result), 600.0);  // The rest of issuing waits.
  result.issue_us = 400;
  EXPECT_EQ(OwnUsMax(result), 1000.0);  // None of it waits.
}

TEST(OwnUsMax, IsNotKnownWithoutAProfileNorWhereTheHostsPartLeavesIssuingOut) {
  ThroughputResult result;
  result.host_us = 1000;
  result.issue_us = 900;
  EXPECT_EQ(OwnUsMax(result), std::nullopt);
  result.profiles.resize(1);
  result.profiles[0].issue_us = 300;
  result.host_us = 800;
  EXPECT_EQ(OwnUsMax(result), std::nullopt);
}

TEST_F(BenchThroughputTest, TellsTheRateWhileAllDecode) {
  options_.num_requests = 0;
  options_.decode_only = true;
  options_.num_output_tokens = 60;
  options_.has_profile = false;

  ASSERT_EQ(RunBenchThroughput(options_), Status::Ok());

  const nlohmann::json json = nlohmann::json::parse(Read("run.json"));
  EXPECT_EQ(json.at("num_requests"), 3);
  const nlohmann::json& rate = json.at("not_the_claim").at("decode_only");
  EXPECT_NEAR(rate.at("num_sequences").get<double>(), 3.0, 1e-9);
  EXPECT_GT(rate.at("context_length").get<double>(), 20.0);
  EXPECT_LT(rate.at("context_length").get<double>(), 80.0);
  EXPECT_TRUE(json.at("profiles").empty());
}

TEST_F(BenchThroughputTest, RefusesWhatCannotBe) {
  BenchThroughputOptions both = options_;
  both.model = "a";
  EXPECT_EQ(RunBenchThroughput(both).code(), StatusCode::kInvalidArgument);

  BenchThroughputOptions too_long = options_;
  too_long.num_input_tokens = 1000;
  EXPECT_EQ(RunBenchThroughput(too_long).message(),
            "context length is 1006, expected at most 128, what the model was made for");

  BenchThroughputOptions unknown = options_;
  unknown.synthetic = "no-such-shape";
  EXPECT_EQ(RunBenchThroughput(unknown).code(), StatusCode::kNotFound);
}

TEST(ThroughputReport, ClaimsNothingOfFewerRequestsThanAClaimTakes) {
  ThroughputResult result{
      .num_output_tokens = 10, .num_requests = 512, .num_claim_requests = 512, .run_seconds = 2.0};

  EXPECT_DOUBLE_EQ(ThroughputJson(result).at("output_tokens_per_second"), 2560.0);
  EXPECT_NE(ThroughputText(result).find("\nwhole run: 2560.0"), std::string::npos);

  result.num_requests = 511;
  EXPECT_FALSE(ThroughputJson(result).contains("output_tokens_per_second"));
  EXPECT_DOUBLE_EQ(ThroughputJson(result).at("not_the_claim").at("output_tokens_per_second"),
                   2555.0);
  EXPECT_NE(ThroughputText(result).find("not the claim: whole run"), std::string::npos);
}

TEST(ThroughputReport, TheBoundIsTheLongerOfMemoryAndArithmetic) {
  const DeviceRates rates{
      .bytes_per_second = 1e12, .int8_ops_per_second = 1e15, .f16_ops_per_second = 1e14};

  EXPECT_DOUBLE_EQ(BoundUs({.num_bytes = 2e6, .num_int8_ops = 1e9}, rates), 2.0);
  EXPECT_DOUBLE_EQ(BoundUs({.num_bytes = 2e6, .num_int8_ops = 5e9}, rates), 5.0);
  EXPECT_DOUBLE_EQ(BoundUs({.num_bytes = 2e6}, DeviceRates{}), 0.0);
}

}  // namespace
}  // namespace comet
