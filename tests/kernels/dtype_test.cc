#include "kernels/base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace comet {
namespace {

TEST(Half, RoundTripsEveryFiniteValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<uint16_t>(bits)};
    if ((bits & 0x7c00u) == 0x7c00u) continue;

    EXPECT_EQ(HalfFromFloat(ToFloat(half)).bits, half.bits);
  }
}

TEST(Half, RoundsTiesToEven) {
  EXPECT_EQ(ToFloat(HalfFromFloat(2049.0f)), 2048.0f);
  EXPECT_EQ(ToFloat(HalfFromFloat(2051.0f)), 2052.0f);
  EXPECT_EQ(HalfFromFloat(0x1.8p-24f).bits, 2);
  EXPECT_EQ(HalfFromFloat(0x1p-25f).bits, 0);
}

TEST(Half, OverflowsToInfinity) {
  EXPECT_EQ(ToFloat(HalfFromFloat(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(ToFloat(HalfFromFloat(65520.0f))));
  EXPECT_TRUE(std::isnan(ToFloat(HalfFromFloat(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Bfloat16, RoundsTiesToEven) {
  EXPECT_EQ(ToFloat(Bfloat16FromFloat(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(ToFloat(Bfloat16FromFloat(1.0f + 0x3p-8f)), 1.0f + 0x1p-6f);
}

}  // namespace
}  // namespace comet
