#include "server/commands/accuracy_gate.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace comet {
namespace {

std::string Linear(const std::string& output_8, const std::string& output_mixed) {
  return "{\"weight_error\": 0.1, \"output_error_8\": " + output_8 +
         ", \"output_error_mixed\": " + output_mixed + ", \"int4_share\": 0.9}";
}

// Two good layers and, as the second one's down, `down`.
std::string Report(const std::string& down, const std::string& held_out) {
  const std::string good = Linear("0.05", "0.1");
  const std::string head =
      "{\"qkv\": " + good + ", \"o\": " + good + ", \"gate_up\": " + good + ", \"down\": ";
  return "{\"layers\": [" + head + good + "}, " + head + down + "}]" +
         (held_out.empty() ? "" : ", \"held_out\": " + held_out) + "}";
}

std::string HeldOut(const std::string& int8, const std::string& mixed,
                    int64_t num_predictions = kJudgedPredictionsMin) {
  return "{\"predictions\": " + std::to_string(num_predictions) +
         ", \"perplexity_float\": 10.0, \"perplexity_8\": " + int8 +
         ", \"perplexity_mixed\": " + mixed + "}";
}

class AccuracyGateTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/comet_gate_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
    WriteConfig("comet");
  }
  ~AccuracyGateTest() override { std::filesystem::remove_all(folder_); }

  void WriteConfig(const std::string& quant_method) {
    std::ofstream(folder_ + "/config.json")
        << "{\"quantization_config\": {\"quant_method\": \"" << quant_method << "\"}}";
  }

  AccuracyVerdict Judge(const std::string& report, const std::string& activation_bits = "8") {
    std::ofstream(folder_ + "/accuracy.json") << report;
    return JudgeAccuracy(folder_, activation_bits, 2.0);
  }

  std::string folder_;
};

TEST_F(AccuracyGateTest, PassesAGoodReport) {
  const AccuracyVerdict verdict = Judge(Report(Linear("0.05", "0.1"), HeldOut("11", "12.5")));

  EXPECT_TRUE(verdict.status.ok()) << verdict.status;
  EXPECT_DOUBLE_EQ(verdict.perplexity_ratio.value(), 1.1);
}

TEST_F(AccuracyGateTest, JudgesWhatIsServed) {
  const std::string report = Report(Linear("0.05", "0.1"), HeldOut("11", "20.1"));

  EXPECT_TRUE(Judge(report, "8").status.ok());
  const Status mixed = Judge(report, "mixed").status;
  EXPECT_EQ(mixed.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(mixed.message().find("--perplexity-ratio-max"), std::string::npos) << mixed;
}

TEST_F(AccuracyGateTest, RefusesAPerplexityThatIsNoNumber) {
  const Status status = Judge(Report(Linear("0.05", "0.1"), HeldOut("null", "12"))).status;

  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
}

TEST_F(AccuracyGateTest, AHandfulOfPredictionsGivesNoRatio) {
  const auto judge = [&](const std::string& int8, int64_t num_predictions) {
    return Judge(Report(Linear("0.05", "0.1"), HeldOut(int8, "12", num_predictions)));
  };

  EXPECT_FALSE(judge("30", kJudgedPredictionsMin).status.ok());
  const AccuracyVerdict few = judge("30", kJudgedPredictionsMin - 1);
  EXPECT_TRUE(few.status.ok()) << few.status;
  EXPECT_FALSE(few.perplexity_ratio.has_value());
  EXPECT_FALSE(judge("null", kJudgedPredictionsMin - 1).status.ok());
}

TEST_F(AccuracyGateTest, RefusesAPerplexityBelowOne) {
  for (const char* perplexity : {"0", "-5", "0.99"}) {
    const Status status = Judge(Report(Linear("0.05", "0.1"), HeldOut(perplexity, "12"))).status;

    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
    EXPECT_NE(status.message().find("perplexity_8"), std::string::npos) << status;
  }
}

TEST_F(AccuracyGateTest, RefusesALayerWhoseOutputsWereNoNumbers) {
  const std::string report = Report(Linear("null", "0.1"), HeldOut("11", "12"));

  const Status status = Judge(report).status;

  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("layer 1's down"), std::string::npos) << status;
  EXPECT_TRUE(Judge(report, "mixed").status.ok());
}

TEST_F(AccuracyGateTest, RefusesAMissingReport) {
  const Status status = JudgeAccuracy(folder_, "8", 2.0).status;

  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("no accuracy.json"), std::string::npos) << status;
}

TEST_F(AccuracyGateTest, RefusesAReportThatIsCutShort) {
  const std::string report = Report(Linear("0.05", "0.1"), HeldOut("11", "12"));

  const Status status = Judge(report.substr(0, report.size() / 2)).status;

  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("accuracy.json"), std::string::npos) << status;
}

TEST_F(AccuracyGateTest, AReportFromBeforeTheMeasurementPassesWithoutARatio) {
  const AccuracyVerdict verdict = Judge(Report(Linear("0.05", "0.1"), ""));

  EXPECT_TRUE(verdict.status.ok()) << verdict.status;
  EXPECT_FALSE(verdict.perplexity_ratio.has_value());
}

TEST_F(AccuracyGateTest, WhatCometDidNotQuantiseHasNoReport) {
  EXPECT_TRUE(JudgeAccuracy(folder_ + "/model.gguf", "8", 2.0).status.ok());
  WriteConfig("awq");
  EXPECT_TRUE(JudgeAccuracy(folder_, "float", 2.0).status.ok());
  std::ofstream(folder_ + "/config.json") << "{\"model_type\": \"llama\"}";
  EXPECT_TRUE(JudgeAccuracy(folder_, "float", 2.0).status.ok());
}

}  // namespace
}  // namespace comet
