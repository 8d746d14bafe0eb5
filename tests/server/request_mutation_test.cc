#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "kernels/base/random.h"
#include "server/json/parse_json.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"

namespace comet {
namespace {

constexpr int kNumMutations = 20000;

constexpr const char* kChat =
    R"({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a\u00e9"}]}],)"
    R"("stop":["x","yy"],"logit_bias":{"7":-1.5},"n":2,"seed":-9,"stream":true,)"
    R"("stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":3,"top_p":1e-3})";
constexpr const char* kCompletion =
    R"({"model":"m","prompt":[[1,2,3],"text",[4]],"max_tokens":12,"temperature":0.5,"stop":"z",)"
    R"("stop_token_ids":[1],"logprobs":2,"user":"u","echo":false,"best_of":1,"min_p":0.25})";

// Changes, removes, doubles or inserts a few bytes; inserted ones are likely to mean something.
std::string Mutate(std::string text, Random& random) {
  constexpr std::string_view kBytes = "{}[]\":,-+.eE0123456789 truefalsn\\u\x00\xff\xc3\xa9";
  const int num_changes = 1 + random.NextInt(4);
  for (int i = 0; i < num_changes && !text.empty(); ++i) {
    const size_t at = static_cast<size_t>(random.NextInt(static_cast<int>(text.size())));
    const char byte = kBytes[static_cast<size_t>(random.NextInt(static_cast<int>(kBytes.size())))];
    switch (random.NextInt(4)) {
      case 0: text[at] = byte; break;
      case 1: text.erase(at, 1 + static_cast<size_t>(random.NextInt(8))); break;
      case 2: text.insert(at, text.substr(at, static_cast<size_t>(random.NextInt(24)))); break;
      case 3: text.insert(at, 1, byte); break;
    }
  }
  return text;
}

ApiLimits TestLimits() {
  ApiLimits limits;
  limits.vocab_size = 1000;
  return limits;
}

// Any body gets an answer: accepted, or refused with a message and, once it is JSON, a field.
template <typename T>
void ExpectAnswers(const char* seed_text, auto parse) {
  Random random(/*seed=*/11);
  int num_accepted = 0;
  int num_refused_fields = 0;
  for (int i = 0; i < kNumMutations; ++i) {
    const Result<nlohmann::json> json = ParseJson(Mutate(seed_text, random));
    if (!json.ok()) {
      ASSERT_EQ(json.status().code(), StatusCode::kInvalidArgument);
      continue;
    }
    T request;
    const ApiStatus outcome = parse(*json, TestLimits(), request);
    if (outcome.ok()) {
      ++num_accepted;
      continue;
    }
    ++num_refused_fields;
    ASSERT_EQ(outcome.status.code(), StatusCode::kInvalidArgument);
    ASSERT_FALSE(outcome.param.empty()) << outcome.status;
    ASSERT_FALSE(ErrorBody(outcome).empty());
  }
  // The mutations reach both sides of the parser.
  EXPECT_GT(num_accepted, 100);
  EXPECT_GT(num_refused_fields, 100);
}

TEST(RequestMutation, EveryChatBodyGetsAnAnswer) {
  ExpectAnswers<ChatRequest>(kChat, ParseChatRequest);
}

TEST(RequestMutation, EveryCompletionBodyGetsAnAnswer) {
  ExpectAnswers<CompletionRequest>(kCompletion, ParseCompletionRequest);
}

}  // namespace
}  // namespace comet
