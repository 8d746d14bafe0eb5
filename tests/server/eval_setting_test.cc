#include <gtest/gtest.h>

#include "server/commands/eval_model.h"

namespace comet {
namespace {

TEST(EvalSetting, ReadsActivationsAndKvBits) {
  EXPECT_EQ(ParseEvalSetting("A8/KV4").value(), (EvalSetting{"8", "4"}));
  EXPECT_EQ(ParseEvalSetting("Amixed/KV8/4").value(), (EvalSetting{"mixed", "8/4"}));
  EXPECT_EQ(ParseEvalSetting("Afloat/KVauto").value(), (EvalSetting{"float", "auto"}));
}

TEST(EvalSetting, RefusesEverythingElse) {
  for (const char* text :
       {"", "A8", "8/4", "A8/4", "A9/KV4", "A8/KV5", "KV4/A8", "A/KV4", "A8/KV"}) {
    EXPECT_EQ(ParseEvalSetting(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(EvalSetting, RowsAreTheSettingsOrElseTheFlags) {
  EvalModelOptions options{.activation_bits = "mixed", .kv_bits = "8"};
  EXPECT_EQ(options.Settings().value(), (std::vector<EvalSetting>{{"mixed", "8"}}));

  options.settings = {"A8/KV4", "A8/KV16"};
  EXPECT_EQ(options.Settings().value(), (std::vector<EvalSetting>{{"8", "4"}, {"8", "16"}}));

  options.settings.push_back("A8");
  EXPECT_FALSE(options.Settings().ok());
}

}  // namespace
}  // namespace comet
