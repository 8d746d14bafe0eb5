#include "server/openai/completion_request.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace comet {
namespace {

using Json = nlohmann::json;
using Prompt = std::variant<std::string, std::vector<int>>;

ApiStatus Parse(const Json& body, CompletionRequest& out) {
  ApiLimits limits;
  limits.vocab_size = 1000;
  limits.prompts_max = 3;
  return ParseCompletionRequest(body, limits, out);
}

Json With(const std::string& name, Json value) {
  Json body = {{"model", "m"}, {"prompt", "hello"}};
  body[name] = std::move(value);
  return body;
}

CompletionRequest ParseGood(const Json& body) {
  CompletionRequest completion;
  const ApiStatus outcome = Parse(body, completion);
  EXPECT_TRUE(outcome.ok()) << outcome.status << " for " << body;
  return completion;
}

std::string BlamedParam(const Json& body) {
  CompletionRequest completion;
  const ApiStatus outcome = Parse(body, completion);
  return outcome.ok() ? "" : outcome.param;
}

TEST(CompletionRequest, HasOpenAisDefaults) {
  const CompletionRequest completion = ParseGood(With("user", "u"));

  EXPECT_EQ(completion.prompts, std::vector<Prompt>{std::string("hello")});
  EXPECT_EQ(completion.request.output_tokens_max, 16);
  EXPECT_EQ(completion.output_tokens_param, "");
  EXPECT_EQ(completion.request.num_top_logprobs, -1);
  EXPECT_TRUE(completion.request.continues_prompt);
}

TEST(CompletionRequest, TellsAnAskedLengthFromTheDefault) {
  EXPECT_EQ(ParseGood(With("max_tokens", 16)).output_tokens_param, "max_tokens");
  EXPECT_EQ(ParseGood(With("max_tokens", nullptr)).output_tokens_param, "");
}

TEST(CompletionRequest, ReadsEveryFormOfPrompt) {
  const std::vector<int> ids = {1, 2};

  EXPECT_EQ(ParseGood(With("prompt", "a")).prompts, std::vector<Prompt>{std::string("a")});
  EXPECT_EQ(ParseGood(With("prompt", {"a", "b"})).prompts,
            (std::vector<Prompt>{std::string("a"), std::string("b")}));
  EXPECT_EQ(ParseGood(With("prompt", {1, 2})).prompts, std::vector<Prompt>{ids});
  EXPECT_EQ(ParseGood(With("prompt", Json::parse("[[1,2],[1,2]]"))).prompts,
            (std::vector<Prompt>{ids, ids}));
}

TEST(CompletionRequest, BlamesThePromptsItem) {
  EXPECT_EQ(BlamedParam(With("prompt", 1)), "prompt");
  EXPECT_EQ(BlamedParam(With("prompt", Json::array())), "prompt");
  EXPECT_EQ(BlamedParam(With("prompt", {"a", "b", "c", "d"})), "prompt");
  EXPECT_EQ(BlamedParam(With("prompt", {1, "a"})), "prompt[1]");
  EXPECT_EQ(BlamedParam(With("prompt", {1, 1000})), "prompt[1]");
  EXPECT_EQ(BlamedParam(With("prompt", Json::parse("[[1], [-1]]"))), "prompt[1][0]");
  EXPECT_EQ(BlamedParam(With("prompt", Json::parse("[[]]"))), "prompt[0]");
  EXPECT_EQ(BlamedParam(With("prompt", {{{"a", 1}}})), "prompt[0]");
  EXPECT_EQ(BlamedParam({{"model", "m"}}), "prompt");
}

TEST(CompletionRequest, ReadsLogprobsAsACount) {
  EXPECT_EQ(ParseGood(With("logprobs", 5)).request.num_top_logprobs, 5);
  EXPECT_EQ(BlamedParam(With("logprobs", 6)), "logprobs");
  EXPECT_EQ(BlamedParam(With("logprobs", -1)), "logprobs");
  EXPECT_EQ(BlamedParam(With("logprobs", true)), "logprobs");
}

TEST(CompletionRequest, RefusesWhatItDoesNotSupportByName) {
  EXPECT_EQ(BlamedParam(With("echo", true)), "echo");
  EXPECT_EQ(BlamedParam(With("echo", false)), "");
  EXPECT_EQ(BlamedParam(With("suffix", "x")), "suffix");
  EXPECT_EQ(BlamedParam(With("best_of", 2)), "best_of");
  EXPECT_EQ(BlamedParam(With("best_of", 1)), "");
  EXPECT_EQ(BlamedParam(With("messages", Json::array())), "messages");
  EXPECT_EQ(BlamedParam(With("max_completion_tokens", 1)), "max_completion_tokens");
}

}  // namespace
}  // namespace comet
