#include "server/openai/chat_request.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace comet {
namespace {

using Json = nlohmann::json;

ApiLimits TestLimits() {
  ApiLimits limits;
  limits.vocab_size = 1000;
  return limits;
}

Json Minimal() {
  return {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", "hello"}}}}};
}

// The minimal request with one field set.
Json With(const std::string& name, Json value) {
  Json body = Minimal();
  body[name] = std::move(value);
  return body;
}

ApiStatus Parse(const Json& body, ChatRequest& out) {
  return ParseChatRequest(body, TestLimits(), out);
}

ChatRequest ParseGood(const Json& body) {
  ChatRequest chat;
  const ApiStatus outcome = Parse(body, chat);
  EXPECT_TRUE(outcome.ok()) << outcome.status << " for " << body;
  return chat;
}

// The field that is blamed; "" when the request is accepted.
std::string BlamedParam(const Json& body) {
  ChatRequest chat;
  const ApiStatus outcome = Parse(body, chat);
  if (outcome.ok()) return "";
  EXPECT_EQ(outcome.status.code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(outcome.status.message().starts_with(outcome.param + ": "))
      << outcome.status.message();
  return outcome.param;
}

TEST(ChatRequest, HasOpenAisDefaults) {
  const ChatRequest chat = ParseGood(Minimal());

  EXPECT_EQ(chat.model, "m");
  ASSERT_EQ(chat.messages.size(), 1u);
  EXPECT_EQ(chat.messages[0].role, "user");
  EXPECT_EQ(chat.messages[0].content, "hello");
  EXPECT_FALSE(chat.is_stream);
  EXPECT_EQ(chat.request.num_choices, 1);
  EXPECT_EQ(chat.request.output_tokens_max, 0);
  EXPECT_EQ(chat.request.num_top_logprobs, -1);
  EXPECT_FLOAT_EQ(chat.request.sampling.temperature, 1.0f);
  EXPECT_FLOAT_EQ(chat.request.sampling.top_p, 1.0f);
  EXPECT_FALSE(chat.request.sampling.seed.has_value());
}

TEST(ChatRequest, ReadsEveryField) {
  Json body = Minimal();
  body.update(Json::parse(R"({
    "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false},
    "n": 3, "max_completion_tokens": 7, "stop": ["a", "b"], "stop_token_ids": [4, 5],
    "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1,
    "presence_penalty": -2, "frequency_penalty": 2, "seed": -1, "logit_bias": {"7": -100, "8": 1.5},
    "logprobs": true, "top_logprobs": 20, "ignore_eos": true, "skip_special_tokens": false,
    "priority": -5, "deadline_ms": 900
  })"));

  const ChatRequest chat = ParseGood(body);

  EXPECT_TRUE(chat.is_stream);
  EXPECT_TRUE(chat.has_usage_in_stream);
  const Request& request = chat.request;
  EXPECT_EQ(request.num_choices, 3);
  EXPECT_EQ(request.output_tokens_max, 7);
  EXPECT_EQ(request.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.stop_token_ids, (std::vector<int>{4, 5}));
  EXPECT_FLOAT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(request.sampling.top_p, 0.9f);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_FLOAT_EQ(request.sampling.min_p, 0.1f);
  EXPECT_FLOAT_EQ(request.sampling.repetition_penalty, 1.1f);
  EXPECT_FLOAT_EQ(request.sampling.presence_penalty, -2.0f);
  EXPECT_FLOAT_EQ(request.sampling.frequency_penalty, 2.0f);
  EXPECT_EQ(request.sampling.seed, 0xffffffffffffffffu);
  EXPECT_EQ(request.sampling.logit_bias,
            (std::vector<std::pair<int, float>>{{7, -100.0f}, {8, 1.5f}}));
  EXPECT_EQ(request.num_top_logprobs, 20);
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_TRUE(request.with_special_tokens);
  EXPECT_EQ(request.priority, -5);
  EXPECT_EQ(request.deadline_ms, 900);
}

TEST(ChatRequest, TakesTopKOfMinusOneForAll) {
  EXPECT_EQ(ParseGood(With("top_k", -1)).request.sampling.top_k, 0);
}

TEST(ChatRequest, TellsARangeThatLeavesZeroOut) {
  for (const double value : {0.0, -1.0, -1e300, 1e-300, 1.5, 1e300}) {
    ChatRequest chat;
    const ApiStatus outcome = Parse(With("top_p", value), chat);
    EXPECT_NE(outcome.status.message().find("expected above 0, to 1"), std::string::npos)
        << value << ": " << outcome.status;
  }
}

TEST(ChatRequest, TakesNullForAbsent) {
  for (const char* name : {"stream",
                           "stream_options",
                           "n",
                           "max_tokens",
                           "max_completion_tokens",
                           "stop",
                           "stop_token_ids",
                           "temperature",
                           "top_p",
                           "top_k",
                           "min_p",
                           "seed",
                           "logit_bias",
                           "logprobs",
                           "top_logprobs",
                           "user",
                           "tools",
                           "response_format",
                           "audio",
                           "metadata"}) {
    EXPECT_EQ(BlamedParam(With(name, nullptr)), "") << name;
  }
}

TEST(ChatRequest, RefusesWrongTypes) {
  const std::pair<const char*, Json> cases[] = {
      {"model", 1},
      {"messages", "hi"},
      {"stream", "yes"},
      {"stream_options", 1},
      {"n", "2"},
      {"n", 1.5},
      {"max_tokens", "9"},
      {"max_tokens", true},
      {"stop", 1},
      {"temperature", "1"},
      {"top_p", Json{}},
      {"top_k", 1.5},
      {"seed", 1.5},
      {"seed", "1"},
      {"logit_bias", Json::array()},
      {"logprobs", 1},
      {"top_logprobs", "1"},
      {"stop_token_ids", "1"},
      {"ignore_eos", 1},
      {"user", 1},
      {"metadata", "x"},
      {"priority", "high"},
      {"deadline_ms", 0.5},
  };
  for (const auto& [name, value] : cases) {
    if (value.is_null()) continue;
    EXPECT_EQ(BlamedParam(With(name, value)), name) << value;
  }
}

TEST(ChatRequest, RefusesValuesOutOfRange) {
  const std::pair<const char*, Json> cases[] = {
      {"n", 0},
      {"n", -1},
      {"n", 17},
      {"n", 18446744073709551615u},
      {"max_tokens", 0},
      {"max_tokens", -1},
      {"max_tokens", 9223372036854775807},
      {"max_completion_tokens", 0},
      {"temperature", -0.1},
      {"temperature", 2.1},
      {"top_p", 0},
      {"top_p", 1.01},
      {"top_p", -1},
      {"top_k", -2},
      {"min_p", 1.5},
      {"repetition_penalty", 0},
      {"repetition_penalty", 1e-38},
      {"repetition_penalty", 11},
      {"presence_penalty", 2.5},
      {"frequency_penalty", -2.5},
      {"deadline_ms", 0},
      {"deadline_ms", 600001},
      {"priority", 11},
      {"priority", -11},
  };
  for (const auto& [name, value] : cases) {
    EXPECT_EQ(BlamedParam(With(name, value)), name) << value;
  }
}

TEST(ChatRequest, BlamesTheItemOfAList) {
  EXPECT_EQ(BlamedParam(With("stop", {"a", ""})), "stop[1]");
  EXPECT_EQ(BlamedParam(With("stop", {"a", 1})), "stop[1]");
  EXPECT_EQ(BlamedParam(With("stop", std::string(1025, 'x'))), "stop");
  EXPECT_EQ(BlamedParam(With("stop", Json(std::vector<std::string>(17, "x")))), "stop");
  EXPECT_EQ(BlamedParam(With("stop_token_ids", {1, 1000})), "stop_token_ids[1]");
  EXPECT_EQ(BlamedParam(With("stop_token_ids", {-1})), "stop_token_ids[0]");
  EXPECT_EQ(BlamedParam(With("logit_bias", {{"5", 101}})), "logit_bias.5");
  EXPECT_EQ(BlamedParam(With("logit_bias", {{"1000", 1}})), "logit_bias");
  EXPECT_EQ(BlamedParam(With("logit_bias", {{"x", 1}})), "logit_bias");
  EXPECT_EQ(BlamedParam(With("stream_options", {{"what", 1}})), "stream_options.what");
  EXPECT_EQ(BlamedParam(With("metadata", {{"a", 1}})), "metadata.a");
}

TEST(ChatRequest, RefusesWhatItDoesNotSupportByName) {
  const std::pair<const char*, Json> cases[] = {
      {"tools", {{{"type", "function"}}}},
      {"functions", {{{"name", "f"}}}},
      {"tool_choice", "auto"},
      {"function_call", {{"name", "f"}}},
      {"response_format", {{"type", "json_object"}}},
      {"response_format", {{"type", "json_schema"}, {"json_schema", Json::object()}}},
      {"audio", {{"voice", "alloy"}}},
      {"modalities", {"text", "audio"}},
      {"prediction", {{"type", "content"}}},
      {"reasoning_effort", "low"},
      {"verbosity", "low"},
      {"web_search_options", Json::object()},
      {"moderation", Json::object()},
      {"prompt_cache_retention", "24h"},
      {"prompt_cache_options", Json::object()},
      {"service_tier", "priority"},
      {"store", true},
  };
  for (const auto& [name, value] : cases) {
    ChatRequest chat;
    const ApiStatus outcome = Parse(With(name, value), chat);

    EXPECT_EQ(outcome.param, name);
    const bool is_named = outcome.code == "unsupported_parameter" || outcome.code.empty();
    EXPECT_TRUE(is_named) << outcome.code;
    EXPECT_EQ(HttpStatusOf(outcome), 400);
  }
}

TEST(ChatRequest, AcceptsWhatChangesNothing) {
  const std::pair<const char*, Json> cases[] = {
      {"user", "u"},
      {"store", false},
      {"tools", Json::array()},
      {"tool_choice", "none"},
      {"parallel_tool_calls", true},
      {"response_format", {{"type", "text"}}},
      {"modalities", {"text"}},
      {"service_tier", "auto"},
      {"metadata", {{"a", "b"}}},
      {"safety_identifier", "s"},
      {"prompt_cache_key", "k"},
  };
  for (const auto& [name, value] : cases) EXPECT_EQ(BlamedParam(With(name, value)), "") << name;
}

TEST(ChatRequest, RefusesUnknownFields) {
  ChatRequest chat;
  const ApiStatus outcome = Parse(With("temprature", 1), chat);

  EXPECT_EQ(outcome.param, "temprature");
  EXPECT_EQ(outcome.code, "unknown_parameter");
  EXPECT_EQ(BlamedParam(With("", 1)), "body");
}

TEST(ChatRequest, RefusesWhatIsNoObject) {
  for (const char* text : {"[]", "null", "1", "\"x\"", "true"}) {
    EXPECT_EQ(BlamedParam(Json::parse(text)), "body") << text;
  }
}

TEST(ChatRequest, NeedsMessages) {
  EXPECT_EQ(BlamedParam({{"model", "m"}}), "messages");
  EXPECT_EQ(BlamedParam(With("messages", Json::array())), "messages");
}

TEST(ChatRequest, TakesAnAbsentModelForTheServedOne) {
  EXPECT_EQ(ParseGood({{"messages", {{{"role", "user"}, {"content", "x"}}}}}).model, "");
  EXPECT_EQ(BlamedParam(With("model", "")), "model");
}

TEST(ChatRequest, ChecksMessages) {
  const auto blamed = [](const char* message) {
    return BlamedParam(With("messages", Json::array({Json::parse(message)})));
  };

  EXPECT_EQ(blamed(R"("hi")"), "messages[0]");
  EXPECT_EQ(blamed(R"({"content": "x"})"), "messages[0].role");
  EXPECT_EQ(blamed(R"({"role": "user"})"), "messages[0].content");
  EXPECT_EQ(blamed(R"({"role": "user", "content": null})"), "messages[0].content");
  EXPECT_EQ(blamed(R"({"role": "king", "content": "x"})"), "messages[0].role");
  EXPECT_EQ(blamed(R"({"role": "tool", "content": "x"})"), "messages[0].role");
  EXPECT_EQ(blamed(R"({"role": "user", "content": 1})"), "messages[0].content");
  EXPECT_EQ(blamed(R"({"role": "user", "content": []})"), "messages[0].content");
  EXPECT_EQ(blamed(R"({"role": "user", "content": "x", "mood": 1})"), "messages[0].mood");
  EXPECT_EQ(blamed(R"({"role": "assistant", "content": "x", "refusal": "no"})"),
            "messages[0].refusal");
  EXPECT_EQ(blamed(R"({"role": "assistant", "content": "x", "tool_calls": [{}]})"),
            "messages[0].tool_calls");
}

TEST(ChatRequest, ReadsTextPartsAndRefusesOthersByName) {
  const ChatRequest chat =
      ParseGood(With("messages", Json::parse(R"([{"role": "developer", "name": "ann", "content":
                  [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])")));

  EXPECT_EQ(chat.messages[0].role, "system");
  EXPECT_EQ(chat.messages[0].name, "ann");
  EXPECT_EQ(chat.messages[0].content, "a\nb");
  const auto blamed = [](const char* part) {
    return BlamedParam(
        With("messages",
             Json::array({{{"role", "user"}, {"content", Json::array({Json::parse(part)})}}})));
  };
  EXPECT_EQ(blamed(R"({"type": "image_url", "image_url": {"url": "x"}})"),
            "messages[0].content[0].type");
  EXPECT_EQ(blamed(R"({"type": "text"})"), "messages[0].content[0].text");
  EXPECT_EQ(blamed(R"({"text": "a"})"), "messages[0].content[0].type");
  EXPECT_EQ(blamed(R"("a")"), "messages[0].content[0]");
}

TEST(ChatRequest, ChecksFieldsAgainstEachOther) {
  EXPECT_EQ(BlamedParam(With("stream_options", {{"include_usage", true}})), "stream_options");
  EXPECT_EQ(BlamedParam(With("top_logprobs", 2)), "top_logprobs");
  Json body = With("max_tokens", 5);
  body["max_completion_tokens"] = 6;
  EXPECT_EQ(BlamedParam(body), "max_tokens");
  body["max_completion_tokens"] = 5;
  EXPECT_EQ(ParseGood(body).request.output_tokens_max, 5);
}

TEST(ChatRequest, ReportsTheChosenTokenAloneWithoutTopLogprobs) {
  EXPECT_EQ(ParseGood(With("logprobs", true)).request.num_top_logprobs, 0);
  EXPECT_EQ(ParseGood(With("logprobs", false)).request.num_top_logprobs, -1);
}

}  // namespace
}  // namespace comet
