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

TEST(EvalSetting, RowsAreTheReferenceThenTheSettingsOrElseTheFlags) {
  EvalModelOptions options{.model = "m", .activation_bits = "mixed", .kv_bits = "8"};
  EXPECT_EQ(options.Rows().value(), (std::vector<EvalRow>{{"m", {"mixed", "8"}}}));

  options.reference = "r";
  options.settings = {"A8/KV4", "A8/KV16"};
  EXPECT_EQ(options.Rows().value(),
            (std::vector<EvalRow>{{"r", {"float", "16"}}, {"m", {"8", "4"}}, {"m", {"8", "16"}}}));

  options.settings.push_back("A8");
  EXPECT_FALSE(options.Rows().ok());
}

}  // namespace
}  // namespace comet
