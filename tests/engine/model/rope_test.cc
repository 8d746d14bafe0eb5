#include "engine/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace comet {
namespace {

TEST(RopeTables, RotateByPositionTimesFrequency) {
  const Result<RopeTables> tables = MakeRopeTables({.theta = 10000.0}, 4, 3);

  ASSERT_TRUE(tables.ok());
  ASSERT_EQ(tables->cos.size(), 6u);
  EXPECT_FLOAT_EQ(tables->cos[4], static_cast<float>(std::cos(2.0)));   // position 2, pair 0
  EXPECT_FLOAT_EQ(tables->sin[5], static_cast<float>(std::sin(0.02)));  // position 2, pair 1
}

TEST(RopeTables, LinearScalingDividesFrequencies) {
  const Result<RopeTables> tables = MakeRopeTables({.type = "linear", .factor = 2.0}, 2, 3);

  ASSERT_TRUE(tables.ok());
  EXPECT_FLOAT_EQ(tables->cos[2], static_cast<float>(std::cos(1.0)));
}

TEST(RopeTables, Llama3KeepsFastPairsAndDividesSlowOnes) {
  const RopeConfig rope{.type = "llama3",
                        .theta = 500000.0,
                        .factor = 8.0,
                        .low_frequency_factor = 1.0,
                        .high_frequency_factor = 4.0,
                        .original_context_max = 8192};
  const int rotary_dim = 128;

  const Result<RopeTables> tables = MakeRopeTables(rope, rotary_dim, 2);

  ASSERT_TRUE(tables.ok());
  const int num_pairs = rotary_dim / 2;
  const double slowest = std::pow(500000.0, -63.0 / 64.0);
  EXPECT_FLOAT_EQ(tables->sin[static_cast<size_t>(num_pairs)], static_cast<float>(std::sin(1.0)));
  EXPECT_FLOAT_EQ(tables->sin[static_cast<size_t>(2 * num_pairs - 1)],
                  static_cast<float>(std::sin(slowest / 8.0)));
}

TEST(RopeTables, YarnKeepsFastPairsDividesSlowOnesAndScalesBoth) {
  const RopeConfig rope{.type = "yarn",
                        .theta = 10000.0,
                        .factor = 4.0,
                        .original_context_max = 4096,
                        .attention_factor = 1.25};

  const Result<RopeTables> tables = MakeRopeTables(rope, 128, 2);

  ASSERT_TRUE(tables.ok());
  EXPECT_FLOAT_EQ(tables->cos[0], 1.25f);  // Position 0.
  EXPECT_FLOAT_EQ(tables->sin[64], static_cast<float>(1.25 * std::sin(1.0)));
  const double slowest = std::pow(10000.0, -63.0 / 64.0);
  EXPECT_FLOAT_EQ(tables->sin[127], static_cast<float>(1.25 * std::sin(slowest / 4.0)));
}

TEST(RopeTables, DivisorsAreOfEachPair) {
  const Result<RopeTables> tables =
      MakeRopeTables({.type = "divisors", .divisors = {1.0f, 8.0f}}, 4, 2);

  ASSERT_TRUE(tables.ok());
  EXPECT_FLOAT_EQ(tables->sin[2], static_cast<float>(std::sin(1.0)));
  EXPECT_FLOAT_EQ(tables->sin[3], static_cast<float>(std::sin(0.01 / 8.0)));
}

TEST(RopeTables, RefuseUnknownScaling) {
  const Result<RopeTables> tables = MakeRopeTables({.type = "dynamic"}, 4, 3);

  EXPECT_EQ(tables.status().code(), StatusCode::kUnimplemented);
  EXPECT_NE(tables.status().message().find("dynamic"), std::string::npos);
}

}  // namespace
}  // namespace comet
