#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "server/commands/bench_attention.h"
#include "server/commands/bench_report.h"
#include "server/commands/bench_shapes.h"

namespace comet {
namespace {

std::string BenchFolder() {
  const char* root = std::getenv("COMET_SOURCE_DIR");
  return std::string(root != nullptr ? root : ".") + "/configs/bench";
}

// Ours takes 10 us; fp16 `speedup` times that.
OpMeasurement MeasurementOf(int num_tokens, double speedup) {
  OpMeasurement m{
      .num_tokens = num_tokens, .num_bytes = 15e6, .num_ops = 4e9, .sm_clock_mhz = 1500};
  m.times.push_back({.kernel = "w4ax", .us = 10});
  if (speedup > 0) m.times.push_back({.kernel = "cublaslt_fp16", .us = 10 * speedup});
  return m;
}

BenchGroup GroupOf(const std::vector<double>& speedups) {
  BenchGroup group{.name = "a & b\x01", .num_tokens = {1, 16}, .rows = {}};
  for (const double speedup : speedups) {
    group.rows.push_back(
        {.shape = {.model = "m<1>", .layer = "qkv", .num_outputs = 64, .num_inputs = 128},
         .measurements = {MeasurementOf(1, speedup), MeasurementOf(16, 2 * speedup)}});
  }
  return group;
}

const BenchDevice kDevice{.description = "card",
                          .num_sms = 100,
                          .copy_bytes_per_second = 3e12,
                          .int8_ops_per_clock_and_sm = 8000};

TEST(BenchShapes, LoadsEveryFileOfConfigsBench) {
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BenchFolder())) {
    const Result<BenchShapes> shapes = LoadBenchShapes(entry.path().string());
    EXPECT_TRUE(shapes.ok()) << entry.path() << ": " << shapes.status();
    ++num_files;
  }
  EXPECT_GE(num_files, 2);
}

TEST(BenchShapes, ThePapersRowsAre32WithRepeats) {
  const BenchShapes paper = LoadBenchShapes(BenchFolder() + "/paper_shapes.json").value();

  EXPECT_EQ(paper.shapes.size(), 32u);
  const auto count = [&](int num_outputs, int num_inputs) {
    return std::count_if(paper.shapes.begin(), paper.shapes.end(), [&](const BenchShape& shape) {
      return shape.num_outputs == num_outputs && shape.num_inputs == num_inputs;
    });
  };
  EXPECT_EQ(count(12288, 4096), 3);  // LLaMA-2-7B, LLaMA-3-8B, Mistral-7B.
  EXPECT_EQ(count(19968, 6656), 1);  // 19.5 x 1024, 6.5 x 1024.
  EXPECT_EQ(count(8192, 29568), 1);
}

TEST(BenchShapes, AFaultIsNamedByItsPlace) {
  const auto message = [](const std::string& text) {
    const Status status = ParseBenchShapes("file.json", text).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    return status.message();
  };

  EXPECT_NE(message("[]").find("file.json"), std::string::npos);
  EXPECT_NE(message(R"({"name": "a", "num_tokens": [0], "shapes": []})").find("num_tokens"),
            std::string::npos);
  EXPECT_NE(message(R"({"name": "a", "num_tokens": [1], "shapes": [{"model": "m"}]})")
                .find("shapes[0].layer"),
            std::string::npos);
  EXPECT_NE(message(R"({"name": "a", "num_tokens": [1], "shapes": []})").find("empty"),
            std::string::npos);
}

TEST(BenchShapes, ReadsCountsAndShapesOfTheCommandLine) {
  EXPECT_EQ(ParseCounts("1,16,256", "a count").value(), (std::vector<int>{1, 16, 256}));
  for (const char* text : {"", "1,", "0", "x", "1;2", "4096x4096", "99999999999"}) {
    const Status status = ParseCounts(text, "a count").status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_NE(status.message().find("bench: a count is '"), std::string::npos) << status;
  }
  const BenchShape shape = ParseBenchShape("28672x4096").value();
  EXPECT_EQ(shape.num_outputs, 28672);
  EXPECT_EQ(shape.num_inputs, 4096);
  for (const char* text : {"28672", "x4096", "28672x", "1x2x3"}) {
    EXPECT_EQ(ParseBenchShape(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(BenchReport, GeomeansCountRepeatsAndLeaveOutWhatWasNotMeasured) {
  const BenchGroup group = GroupOf({2, 2, 4, 0});

  EXPECT_NEAR(*GeomeanSpeedup(group, "cublaslt_fp16", 1), std::cbrt(16.0), 1e-12);
  EXPECT_NEAR(*GeomeanSpeedup(group, "cublaslt_fp16", 16), 2 * std::cbrt(16.0), 1e-12);
  EXPECT_FALSE(GeomeanSpeedup(group, "cublaslt_fp16", 64).has_value());
  EXPECT_FALSE(GeomeanSpeedup(group, "cublaslt_fp8", 1).has_value());
}

TEST(BenchReport, TheBoundIsTrafficOrArithmeticWhicheverIsLonger) {
  OpMeasurement m = MeasurementOf(1, 2);

  EXPECT_NEAR(BoundUs(kDevice, m), 5.0, 1e-9);  // 15 MB at 3 TB/s.
  m.num_ops = 1.2e10;
  EXPECT_NEAR(BoundUs(kDevice, m), 10.0, 1e-9);  // At 100 x 8000 x 1500 MHz.
  m.sm_clock_mhz = 0;
  EXPECT_NEAR(BoundUs(kDevice, m), 5.0, 1e-9);  // No clock, no bound by arithmetic.
}

TEST(BenchReport, JsonAndTableHoldEveryMeasurement) {
  const std::vector<BenchGroup> groups = {GroupOf({2, 0})};

  const nlohmann::ordered_json json = BenchJson(kDevice, groups);
  const std::string table = BenchTable(kDevice, groups);

  const auto& rows = json["groups"][0]["rows"];
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["measurements"][1]["kernels"][1]["speedup_over"], 4.0);
  EXPECT_EQ(rows[1]["measurements"][1]["kernels"].size(), 1u);
  EXPECT_EQ(json["groups"][0]["geomeans"][1]["cublaslt_fp16"], 4.0);
  EXPECT_NE(table.find("geomean over cublaslt_fp16:  M 1 2.000  M 16 4.000"), std::string::npos)
      << table;
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 1 + 3 + 4 + 1);
}

TEST(BenchReport, ThePictureHasALineAShapeAndTheMean) {
  const std::string svg = BenchSvg({GroupOf({2, 3})}, "cublaslt_fp16");

  EXPECT_EQ(svg.rfind("<svg", 0), 0u);
  size_t num_lines = 0;
  for (size_t at = svg.find("<polyline"); at != std::string::npos;
       at = svg.find("<polyline", at + 1)) {
    ++num_lines;
  }
  EXPECT_EQ(num_lines, 2u);                               // Equal shapes are one line.
  EXPECT_NE(svg.find("a &amp; b :"), std::string::npos);  // XML forbids control characters.
  EXPECT_NE(svg.find("m&lt;1&gt;"), std::string::npos);
  EXPECT_EQ(BenchSvg({GroupOf({0})}, "cublaslt_fp16"), "");
}

TEST(BenchAttention, SizesAreBatchContextAndQueries) {
  const BenchOpsOptions options{
      .shape = "64x4096,1x8192x512", .heads = "64x8x64", .kv_bits = "8x4", .window = 100};
  const std::vector<AttentionCase> cases = ParseAttentionCases(options).value();

  ASSERT_EQ(cases.size(), 2u);
  EXPECT_EQ(cases[0].num_sequences, 64);
  EXPECT_EQ(cases[0].context_length, 4096);
  EXPECT_EQ(cases[0].num_queries, 1);
  EXPECT_EQ(cases[1].num_queries, 512);
  EXPECT_EQ(cases[1].num_heads, 64);
  EXPECT_EQ(cases[1].num_kv_heads, 8);
  EXPECT_EQ(cases[1].head_dim, 64);
  EXPECT_EQ(cases[1].format.k_bits, 8);
  EXPECT_EQ(cases[1].format.v_bits, 4);
  EXPECT_EQ(cases[1].window, 100);
}

TEST(BenchAttention, TheDefaultSizesParse) {
  EXPECT_GE(ParseAttentionCases({}).value().size(), 6u);
}

TEST(BenchAttention, AFaultIsNamed) {
  const auto message = [](const BenchOpsOptions& options) {
    const Status status = ParseAttentionCases(options).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    return status.message();
  };
  for (const char* shape :
       {"64", "64x", "x64", "64x10x11", "64x-1", "0x5", "1x2x1x1", "1x5,", "a"}) {
    EXPECT_NE(message({.shape = shape}), "") << shape;
  }
  EXPECT_NE(message({.heads = "30x8x128"}).find("heads"), std::string::npos);
  EXPECT_NE(message({.kv_bits = "4"}).find("bits"), std::string::npos);
  EXPECT_NE(message({.window = -1}).find("window"), std::string::npos);
}

}  // namespace
}  // namespace comet
