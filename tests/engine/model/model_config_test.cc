#include "engine/model/model_config.h"

#include <gtest/gtest.h>

#include <limits>

namespace comet {
namespace {

ModelConfig SmallModel() {
  return {.hidden_size = 64,
          .num_layers = 1,
          .num_heads = 2,
          .num_kv_heads = 1,
          .head_dim = 32,
          .rotary_dim = 32,
          .ffn_size = 64,
          .vocab_size = 10,
          .context_length_max = 64};
}

TEST(ModelConfig, AcceptsAPlainModel) { EXPECT_TRUE(SmallModel().Validate().ok()); }

TEST(ModelConfig, ReportsEveryFault) {
  ModelConfig config = SmallModel();
  config.hidden_size = kModelDimMax + 1;
  config.rotary_dim = 33;
  config.num_kv_heads = 3;
  config.eos_ids = {10};
  config.rope.theta = std::numeric_limits<double>::quiet_NaN();

  EXPECT_EQ(config.Validate().message(),
            "model.hidden_size is 131073, expected 2 to 131072\n"
            "model.hidden_size is odd\n"
            "model.rotary_dim is outside 2 to head_dim or odd\n"
            "model.num_heads is no multiple of num_kv_heads\n"
            "model.rope.theta is nan, expected 0.001 to 1e+12\n"
            "model.an end-of-sequence id is outside the vocabulary");
}

TEST(ModelConfig, BoundsHeadsAsChannels) {
  ModelConfig config = SmallModel();
  config.num_heads = 1024;
  config.head_dim = 1024;

  EXPECT_FALSE(config.Validate().ok());
}

TEST(ModelConfig, HoldsLlama3ToItsOwnRules) {
  ModelConfig config = SmallModel();
  config.rope.low_frequency_factor = 4.0;  // Not used by the default type.
  EXPECT_TRUE(config.Validate().ok());

  config.rope.type = "llama3";
  EXPECT_EQ(config.Validate().message(),
            "model.rope.low_frequency_factor is not below rope.high_frequency_factor");

  config.rope.type = "dynamic";
  EXPECT_FALSE(config.Validate().ok());
}

TEST(ModelConfig, HoldsYarnAndDivisorsToTheirOwnRules) {
  ModelConfig config = SmallModel();
  config.rope.type = "yarn";
  EXPECT_TRUE(config.Validate().ok()) << config.Validate();
  config.rope.attention_factor = 0.0;
  EXPECT_NE(config.Validate().message().find("attention_factor"), std::string::npos);

  config.rope.type = "divisors";
  EXPECT_NE(config.Validate().message().find("divisors"), std::string::npos);
  config.rope.divisors.assign(static_cast<size_t>(config.rotary_dim / 2), 2.0f);
  EXPECT_TRUE(config.Validate().ok()) << config.Validate();
  config.rope.divisors[0] = 0.0f;
  EXPECT_FALSE(config.Validate().ok());
}

}  // namespace
}  // namespace comet
