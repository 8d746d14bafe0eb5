#include "engine/model/precision.h"

#include <gtest/gtest.h>

#include "engine/model/model_config.h"

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

ModelConfig SmallConfig() {
  ModelConfig config;
  config.hidden_size = 64;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.rotary_dim = 16;
  config.ffn_size = 128;
  config.vocab_size = 100;
  config.context_length_max = 256;
  return config;
}

TEST(ModelConfig, AcceptsASmallModel) { EXPECT_TRUE(SmallConfig().Validate().ok()); }

TEST(ModelConfig, ListsEveryFault) {
  ModelConfig config = SmallConfig();
  config.num_kv_heads = 3;
  config.hidden_size = 1 << 30;
  config.eos_ids = {100};

  const Status status = config.Validate();

  EXPECT_NE(status.message().find("num_kv_heads"), std::string::npos);
  EXPECT_NE(status.message().find("hidden_size"), std::string::npos);
  EXPECT_NE(status.message().find("end-of-sequence"), std::string::npos);
}

}  // namespace
}  // namespace comet
