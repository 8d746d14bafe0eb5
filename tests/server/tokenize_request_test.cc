#include "server/openai/tokenize_request.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace comet {
namespace {

const ApiLimits kLimits{.vocab_size = 100};

ApiStatus Parse(const std::string& body, TokenizeRequest& out) {
  return ParseTokenizeRequest(nlohmann::json::parse(body), kLimits, out);
}

TEST(TokenizeRequest, ReadsAPrompt) {
  TokenizeRequest request;
  const ApiStatus outcome =
      Parse(R"({"model": "m", "prompt": "a", "return_token_strs": true})", request);

  ASSERT_TRUE(outcome.ok()) << outcome.status;
  EXPECT_EQ(request.prompt, "a");
  EXPECT_TRUE(request.add_special_tokens);
  EXPECT_TRUE(request.return_token_strs);
}

TEST(TokenizeRequest, ReadsMessagesWithoutSpecialTokens) {
  TokenizeRequest request;
  const ApiStatus outcome =
      Parse(R"({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": false})",
            request);

  ASSERT_TRUE(outcome.ok()) << outcome.status;
  EXPECT_EQ(request.messages.size(), 1u);
  EXPECT_FALSE(request.add_special_tokens);
  EXPECT_FALSE(request.add_generation_prompt);
}

struct Fault {
  const char* body;
  const char* param;
};

class TokenizeFaults : public testing::TestWithParam<Fault> {};

TEST_P(TokenizeFaults, NameTheField) {
  TokenizeRequest request;
  EXPECT_EQ(Parse(GetParam().body, request).param, GetParam().param);
}

INSTANTIATE_TEST_SUITE_P(
    All, TokenizeFaults,
    testing::Values(Fault{"{}", "prompt"}, Fault{R"({"prompt": null})", "prompt"},
                    Fault{R"({"prompt": ["a"]})", "prompt"},
                    Fault{R"({"prompt": "a", "messages": [{"role": "user", "content": "a"}]})",
                          "prompt"},
                    Fault{R"({"messages": []})", "messages"},
                    Fault{R"({"messages": [{"role": "user"}]})", "messages[0].content"},
                    Fault{R"({"prompt": "a", "add_special_tokens": 1})", "add_special_tokens"},
                    Fault{R"({"prompt": "a", "tools": [{}]})", "tools"},
                    Fault{R"({"prompt": "a", "chat_template": "x"})", "chat_template"},
                    Fault{R"({"prompt": "a", "content": "x"})", "content"}));

TEST(DetokenizeRequest, ReadsTokens) {
  DetokenizeRequest request;
  const auto parse = [&](const char* body) {
    request = {};
    return ParseDetokenizeRequest(nlohmann::json::parse(body), kLimits, request);
  };

  EXPECT_TRUE(parse(R"({"tokens": [0, 99]})").ok());
  EXPECT_EQ(request.tokens, (std::vector<int>{0, 99}));
  EXPECT_TRUE(parse(R"({"tokens": []})").ok());
  EXPECT_EQ(parse("{}").param, "tokens");
  EXPECT_EQ(parse(R"({"tokens": [100]})").param, "tokens[0]");
  EXPECT_EQ(parse(R"({"tokens": "a"})").param, "tokens");
  EXPECT_EQ(parse(R"({"prompt": "a"})").param, "prompt");
}

}  // namespace
}  // namespace comet
