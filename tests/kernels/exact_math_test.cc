#include "kernels/base/exact_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace comet {
namespace {

// Distance to the true value in units of the last place of its rounding to binary32.
double ErrorUlp(float got, double want) {
  const float rounded = static_cast<float>(want);
  const float next = std::nextafter(rounded, std::numeric_limits<float>::infinity());
  return std::fabs(static_cast<double>(got) - want) / (static_cast<double>(next) - rounded);
}

TEST(Exp, IsWithinTwoUlpOverItsRange) {
  double error_max = 0;
  for (int i = 0; i <= 4'000'000; ++i) {
    const float x = -87.0f + 175.0f * static_cast<float>(i) / 4'000'000.0f;
    error_max = std::max(error_max, ErrorUlp(Exp(x), std::exp(static_cast<double>(x))));
  }

  EXPECT_LE(error_max, 2.0);
}

TEST(Exp, TakesArgumentsBeyondItsRangeAsTheNearerEnd) {
  EXPECT_EQ(Exp(-1000.0f), Exp(-87.0f));
  EXPECT_EQ(Exp(-std::numeric_limits<float>::infinity()), Exp(-87.0f));
  EXPECT_EQ(Exp(1000.0f), Exp(88.0f));
  EXPECT_TRUE(std::isfinite(Exp(88.0f)));
  EXPECT_TRUE(std::isnormal(Exp(-87.0f)));
}

TEST(Exp, IsExactAtZeroAndPassesNan) {
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-0.0f), 1.0f);
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
}

// Bits computed once on x86-64; a device or compiler that differs breaks the promise of the header.
TEST(Exp, HasTheSameBitsEverywhere) {
  EXPECT_EQ(Exp(1.0f), 0x1.5bf0a8p+1f);
  EXPECT_EQ(Exp(-1.0f), 0x1.78b564p-2f);
  EXPECT_EQ(Exp(10.5f), 0x1.1bb702p+15f);
  EXPECT_EQ(Exp(-33.3f), 0x1.f165d4p-49f);
}

TEST(RoundHalfEven, AgreesWithNearbyint) {
  for (const float x : {0.0f, 0.49f, 0.5f, 1.5f, 2.5f, 3.5f, 126.5f, 127.49f, 8388607.5f, 1e20f}) {
    EXPECT_EQ(RoundHalfEven(x), std::nearbyint(x));
    EXPECT_EQ(RoundHalfEven(-x), std::nearbyint(-x));
    EXPECT_TRUE(std::signbit(RoundHalfEven(-x)));
  }
}

TEST(SumAdjacentLanes, AddsNeighboursFirst) {
  std::vector<float> lanes(kSumLanes, 0.0f);
  lanes[0] = 1.0f;
  lanes[1] = 0x1p-24f;  // Lost beside 1 ...
  lanes[2] = 0x1p-24f;  // ... but two of them together are not.
  lanes[3] = 0x1p-24f;

  EXPECT_EQ(SumAdjacentLanes(lanes.data()), 1.0f + 0x1p-23f);
}

}  // namespace
}  // namespace comet
