#include "kernels/base/row_functions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "kernels/base/exact_math.h"

namespace comet {
namespace {

constexpr size_t kLanes = 16;

std::vector<float> RandomRow(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0.0f, 4.0f);
  std::vector<float> row(size);
  for (float& x : row) x = value(random);
  return row;
}

// The sum in the order that the header promises: sixteen lanes, then what no lane has.
float SumInLanes(const std::vector<float>& terms) {
  const size_t whole = terms.size() / kLanes * kLanes;
  std::array<float, kLanes> lanes{};
  for (size_t i = 0; i < whole; ++i) lanes[i % kLanes] += terms[i];
  float rest = 0.0f;
  for (size_t i = whole; i < terms.size(); ++i) rest += terms[i];
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  return rest + sum;
}

class RowFunctionsTest : public testing::TestWithParam<size_t> {
 protected:
  const std::vector<float> a_ = RandomRow(GetParam(), 1);
  const std::vector<float> b_ = RandomRow(GetParam(), 2);
};

TEST_P(RowFunctionsTest, MaxIsTheLargest) {
  EXPECT_EQ(MaxOf(a_), *std::max_element(a_.begin(), a_.end()));
}

TEST_P(RowFunctionsTest, SumsHaveTheBitsOfTheLanesOrder) {
  std::vector<float> products(a_.size());
  std::vector<float> powers(a_.size());
  std::vector<float> scaled_powers(a_.size());
  for (size_t i = 0; i < a_.size(); ++i) {
    products[i] = a_[i] * b_[i];
    powers[i] = Exp(a_[i] - 3.0f);
    scaled_powers[i] = Exp(0.5f * (a_[i] - 3.0f));
  }

  EXPECT_EQ(DotOf(a_, b_), SumInLanes(products));
  EXPECT_EQ(SumOfExp(3.0f, a_), SumInLanes(powers));
  std::vector<float> row = a_;
  EXPECT_EQ(ExpOfRow(0.5f, 3.0f, row), SumInLanes(scaled_powers));
  EXPECT_EQ(row, scaled_powers);
}

INSTANTIATE_TEST_SUITE_P(Sizes, RowFunctionsTest, testing::Values(1, 15, 16, 17, 33, 64, 1003));

TEST(RowFunctions, PassNaNOn) {
  std::vector<float> row(40, 1.0f);
  row[19] = std::numeric_limits<float>::quiet_NaN();

  EXPECT_TRUE(std::isnan(SumOfExp(1.0f, row)));
  EXPECT_TRUE(std::isnan(DotOf(row, row)));
}

}  // namespace
}  // namespace comet
