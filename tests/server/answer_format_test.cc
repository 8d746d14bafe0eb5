#include "server/openai/answer_format.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace comet {
namespace {

using Json = nlohmann::json;

// Byte-level pieces "a", "b", the two bytes of "é" apart, and a control token.
std::unique_ptr<Tokenizer> MakeTokenizer() {
  Vocabulary vocabulary;
  vocabulary.pre_tokenizer = "smollm";
  vocabulary.pieces = {"a", "b", "\xc3\x83", "\xc2\xa9", "<|im_end|>"};
  vocabulary.types = {TokenType::kNormal, TokenType::kNormal, TokenType::kNormal,
                      TokenType::kNormal, TokenType::kControl};
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(std::move(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

AnswerHead Head(int num_choices = 1) {
  return {.request_id = "r1", .model = "m", .created = 7, .num_choices = num_choices};
}

// The JSON of each "data:" line.
std::vector<Json> Events(const std::string& text) {
  std::vector<Json> events;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = text.find("\n\n", begin);
    events.push_back(Json::parse(text.substr(begin + 6, end - begin - 6)));
    begin = end + 2;
  }
  return events;
}

OutputDelta Delta(std::string text, std::optional<FinishReason> reason = {}) {
  OutputDelta delta;
  delta.text = std::move(text);
  delta.finish_reason = reason;
  return delta;
}

// A text of its own kind costs no JSON tree (ChunkTemplate); what the client reads is the same.
TEST(AnswerFormat, TextsComeBackAsTheyWere) {
  const auto tokenizer = MakeTokenizer();
  AnswerHead head = Head();
  head.model = R"(odd "content":"" and "text":"" name)";
  const auto chat = MakeChatFormat(head, *tokenizer);
  const auto completion = MakeCompletionFormat(head, *tokenizer);
  chat->Events(Delta("a"));  // Names the speaker too.
  for (const std::string& text :
       {std::string("plain"), std::string(R"(quo"te \ back)"),
        std::string("line\nend\r\n\ttab\x01\x7f"), std::string("\0", 1),
        std::string("\xc3\xa9 \xf0\x9f\x8c\x99"), std::string(R"("text":"")")}) {
    const std::vector<Json> chat_events = Events(chat->Events(Delta(text)));
    const std::vector<Json> events = Events(completion->Events(Delta(text)));
    ASSERT_EQ(chat_events.size(), 1u);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(chat_events[0]["choices"][0]["delta"]["content"], text);
    EXPECT_EQ(chat_events[0]["model"], head.model);
    EXPECT_EQ(events[0]["choices"][0]["text"], text);
    EXPECT_EQ(events[0]["model"], head.model);
  }
  // What is no UTF-8 is replaced, never sent.
  EXPECT_EQ(Events(completion->Events(Delta("\xc3")))[0]["choices"][0]["text"], "\xef\xbf\xbd");
}

TEST(ChatFormat, NamesTheSpeakerOnceThenTextThenTheEnd) {
  const auto tokenizer = MakeTokenizer();
  const auto format = MakeChatFormat(Head(), *tokenizer);

  const std::vector<Json> first = Events(format->Events(Delta("a")));
  const std::vector<Json> last = Events(format->Events(Delta("b", FinishReason::kLength)));

  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0], Json::parse(R"({"id": "chatcmpl-r1", "object": "chat.completion.chunk",
    "created": 7, "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant",
    "content": ""}, "logprobs": null, "finish_reason": null}]})"));
  EXPECT_EQ(first[1]["choices"][0]["delta"], (Json{{"content", "a"}}));
  ASSERT_EQ(last.size(), 2u);
  EXPECT_EQ(last[0]["choices"][0]["delta"], (Json{{"content", "b"}}));
  EXPECT_EQ(last[1]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(last[1]["choices"][0]["finish_reason"], "length");
}

TEST(ChatFormat, SaysNullUsageInEveryChunkWhenUsageIsAsked) {
  const auto tokenizer = MakeTokenizer();
  AnswerHead head = Head();
  head.has_usage_in_stream = true;
  const auto format = MakeChatFormat(head, *tokenizer);

  const std::vector<Json> chunks = Events(format->Events(Delta("a")));
  const std::vector<Json> usage =
      Events(format->UsageEvent({.prompt_tokens = 3, .completion_tokens = 4}));

  EXPECT_TRUE(chunks[1].at("usage").is_null());
  EXPECT_EQ(usage[0]["choices"], Json::array());
  EXPECT_EQ(usage[0]["usage"],
            (Json{{"prompt_tokens", 3}, {"completion_tokens", 4}, {"total_tokens", 7}}));
}

TEST(ChatFormat, WritesWholeChoicesInOrder) {
  const auto tokenizer = MakeTokenizer();
  const auto format = MakeChatFormat(Head(2), *tokenizer);

  const Json body = Json::parse(
      format->Body({{.text = "x", .logprobs = {}, .finish_reason = FinishReason::kStop},
                    {.text = "y", .logprobs = {}, .finish_reason = FinishReason::kLength}},
                   {.prompt_tokens = 1, .completion_tokens = 2}));

  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0], Json::parse(R"({"index": 0, "message": {"role": "assistant",
    "content": "x", "refusal": null}, "logprobs": null, "finish_reason": "stop"})"));
  EXPECT_EQ(body["choices"][1]["index"], 1);
  EXPECT_EQ(body["choices"][1]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["total_tokens"], 3);
}

TEST(ChatFormat, GivesTheBytesOfTokensThatAreNoText) {
  const auto tokenizer = MakeTokenizer();
  AnswerHead head = Head();
  head.has_logprobs = true;
  const auto format = MakeChatFormat(head, *tokenizer);
  OutputDelta delta = Delta("");
  delta.logprobs = {{.token_id = 2, .logprob = -0.5f, .top = {{2, -0.5f}, {4, -2.0f}}}};

  const Json content = Events(format->Events(delta)).at(1)["choices"][0]["logprobs"]["content"][0];

  EXPECT_EQ(content["bytes"], (Json{0xc3}));
  EXPECT_EQ(content["token"], "\xef\xbf\xbd");
  EXPECT_EQ(content["top_logprobs"].size(), 2u);
  EXPECT_EQ(content["top_logprobs"][1]["token"], "<|im_end|>");
  EXPECT_FLOAT_EQ(content["top_logprobs"][1]["logprob"], -2.0f);
}

TEST(CompletionFormat, PutsTextAndEndInOneChunk) {
  const auto tokenizer = MakeTokenizer();
  const auto format = MakeCompletionFormat(Head(), *tokenizer);

  const std::vector<Json> events = Events(format->Events(Delta("a", FinishReason::kStop)));

  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0], Json::parse(R"({"id": "cmpl-r1", "object": "text_completion", "created": 7,
    "model": "m", "choices": [{"index": 0, "text": "a", "logprobs": null,
    "finish_reason": "stop"}]})"));
}

TEST(CompletionFormat, SendsNothingForADeltaThatTellsNothing) {
  const auto tokenizer = MakeTokenizer();
  const auto format = MakeCompletionFormat(Head(), *tokenizer);

  EXPECT_EQ(format->Events(Delta("")), "");
}

TEST(CompletionFormat, CountsTextOffsetsInCharactersAcrossChunks) {
  const auto tokenizer = MakeTokenizer();
  AnswerHead head = Head();
  head.has_logprobs = true;
  const auto format = MakeCompletionFormat(head, *tokenizer);
  const auto with_tokens = [](std::vector<int> ids) {
    OutputDelta delta = Delta("");
    for (const int id : ids) delta.logprobs.push_back({.token_id = id, .logprob = -1, .top = {}});
    return delta;
  };

  const Json first = Events(format->Events(with_tokens({0, 2})))[0]["choices"][0]["logprobs"];
  const Json second = Events(format->Events(with_tokens({3, 1})))[0]["choices"][0]["logprobs"];
  const Json third = Events(format->Events(with_tokens({4, 0})))[0]["choices"][0]["logprobs"];

  EXPECT_EQ(first["text_offset"], (Json{0, 1}));
  EXPECT_EQ(second["text_offset"], (Json{2, 2}));
  EXPECT_EQ(third["text_offset"], (Json{3, 3})) << "a control token gives no text";
  EXPECT_EQ(second["tokens"][1], "b");
  EXPECT_EQ(second["token_logprobs"], (Json{-1.0, -1.0}));
  EXPECT_EQ(second["top_logprobs"][1], (Json{{"b", -1.0}}));
}

}  // namespace
}  // namespace comet
