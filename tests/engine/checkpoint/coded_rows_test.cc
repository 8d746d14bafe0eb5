#include "engine/quantizer/coded_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/quantizer/float_product.h"
#include "engine/quantizer/relative_error.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/random_linear.h"
#include "tests/engine/cpu_backend_fixture.h"

namespace comet {
namespace {

class CodedRowsTest : public CpuBackendTest<2> {
 protected:
  Random random_{11};
};

// INT4 region of 128 channels, 16 of 8 bits, of which one is far larger than all others.
TEST_F(CodedRowsTest, DecodeGivesEachRegionWithinHalfItsStep) {
  constexpr size_t kWidth = 144;
  std::vector<float> rows = NormalValues(random_, 3 * kWidth, 1.0f);
  for (size_t t = 0; t < 3; ++t) rows[t * kWidth + 140] = 60.0f;
  const ActivationFormat format{
      .mode = ActivationMode::kMixed, .num_int4_channels = 128, .exponent_max = 7};

  const CodedRows coded = CodedRows::Make(backend_, format, rows, kWidth).value();
  std::vector<float> decoded(rows.size());
  ASSERT_TRUE(coded.Decode(*backend_.device, 2, decoded).ok());

  for (size_t t = 0; t < 3; ++t) {
    const float* row = rows.data() + t * kWidth;
    float largest = 0.0f;
    for (size_t k = 0; k < 128; ++k) largest = std::max(largest, std::abs(row[k]));
    for (size_t k = 0; k < kWidth; ++k) {
      float step = largest / 7.0f;
      while (k >= 128 && step * 127.0f < 60.0f) step *= 2.0f;
      EXPECT_NEAR(decoded[t * kWidth + k], row[k], 0.501f * step) << t << " " << k;
    }
  }
}

TEST_F(CodedRowsTest, DecodesRowsOfZerosAndTheSameOnAnyThreadCount) {
  constexpr size_t kWidth = 12;
  std::vector<float> rows = NormalValues(random_, 5 * kWidth, 1.0f);
  std::fill_n(rows.begin() + kWidth, kWidth, 0.0f);
  const CodedRows coded =
      CodedRows::Make(backend_, {.mode = ActivationMode::kInt8}, rows, kWidth).value();
  std::vector<float> one(rows.size());
  std::vector<float> three(rows.size());

  ASSERT_TRUE(coded.Decode(*backend_.device, 1, one).ok());
  ASSERT_TRUE(coded.Decode(*backend_.device, 3, three).ok());

  EXPECT_EQ(one, three);
  for (size_t k = kWidth; k < 2 * kWidth; ++k) EXPECT_EQ(one[k], 0.0f);
  EXPECT_LT(RelativeError(one, rows), 0.01);
}

TEST_F(CodedRowsTest, ProductOfCodesIsNearlyTheFloatProductAndIsAdded) {
  constexpr int kColumns = 77;  // Tokens of a window: no round number.
  const std::vector<float> a = NormalValues(random_, 6 * kColumns, 3.0f);
  const std::vector<float> b = NormalValues(random_, 10 * kColumns, 0.01f);
  const std::vector<float> before = NormalValues(random_, 60, 1.0f);
  const HostRows exact = MultiplyByTransposed(backend_, a, b, kColumns).value();
  HostRows product;
  HostRows sum(before.begin(), before.end());

  ASSERT_TRUE(AddProductOfCodes(backend_, a, b, kColumns, product).ok());
  ASSERT_TRUE(AddProductOfCodes(backend_, a, b, kColumns, sum).ok());

  EXPECT_LT(RelativeError(product, exact), 0.02);
  for (size_t i = 0; i < sum.size(); ++i) EXPECT_EQ(sum[i], before[i] + product[i]);
}

}  // namespace
}  // namespace comet
