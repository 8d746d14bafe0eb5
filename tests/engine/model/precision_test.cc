#include "engine/model/precision.h"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(Precision, ParsesKvBitsForKAndV) {
  EXPECT_EQ(ParseKvFormat("4").value(), (KvFormat{.k_bits = 4, .v_bits = 4}));
  EXPECT_EQ(ParseKvFormat("8/4").value(), (KvFormat{.k_bits = 8, .v_bits = 4}));
  EXPECT_FALSE(ParseKvFormat("5").ok());
  EXPECT_FALSE(ParseKvFormat("8/").ok());
  EXPECT_FALSE(ParseKvFormat("").ok());
}

TEST(Precision, ParsesActivationModes) {
  EXPECT_EQ(ParseActivationMode("mixed").value(), ActivationMode::kMixed);
  EXPECT_EQ(ParseActivationMode("8").value(), ActivationMode::kInt8);
  EXPECT_EQ(ParseActivationMode("float").value(), ActivationMode::kFloat);
  EXPECT_FALSE(ParseActivationMode("16").ok());
}

TEST(Precision, FloatWeightsTakeFloatActivationsOnly) {
  Precision precision;
  precision.weights = WeightMode::kFloat;
  precision.activations = ActivationMode::kInt8;

  EXPECT_EQ(precision.Validate().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace comet
