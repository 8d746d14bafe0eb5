#include "engine/evaluation/choice_items.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "engine/loader/float_source.h"
#include "engine/loader/mapped_file.h"
#include "tests/engine/test_data.h"

namespace comet {
namespace {

std::string MessageOf(std::string_view text) {
  const Status status = ParseChoiceItems("f", text, 0).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  return status.message();
}

TEST(ChoiceItems, ReadsAQueryWithChoices) {
  const auto items = ParseChoiceItems(
      "f", R"({"query": "He slept, because", "choices": ["he was tired.", " x "], "gold": 1})", 0);

  ASSERT_TRUE(items.ok()) << items.status();
  ASSERT_EQ(items->size(), 1u);
  ASSERT_EQ(items->front().options.size(), 2u);
  EXPECT_EQ(items->front().options[0].context, "He slept, because");
  EXPECT_EQ(items->front().options[0].continuation, " he was tired.");
  EXPECT_EQ(items->front().options[1].continuation, " x");
  EXPECT_EQ(items->front().gold, 1);
}

TEST(ChoiceItems, ClosesAQuestionByAnAnswer) {
  const auto items = ParseChoiceItems(
      "f", R"({"query": "Question: Why?\n", "choices": ["a", "b"], "gold": 0})", 0);

  ASSERT_TRUE(items.ok()) << items.status();
  EXPECT_EQ(items->front().options[0].context, "Question: Why?\nAnswer:");
  EXPECT_EQ(items->front().options[1].continuation, " b");
}

TEST(ChoiceItems, ReadsContextsWithOneContinuation) {
  const auto items = ParseChoiceItems(
      "f", R"({"context_options": ["so Ann", "so Bob"], "continuation": "left.", "gold": 0})", 0);

  ASSERT_TRUE(items.ok()) << items.status();
  EXPECT_EQ(items->front().options[1].context, "so Bob");
  EXPECT_EQ(items->front().options[0].continuation, " left.");
  EXPECT_EQ(items->front().options[1].continuation, " left.");
}

TEST(ChoiceItems, StopsAtTheLimitAndPassesEmptyLines) {
  const std::string line = R"({"query": "q", "choices": ["a", "b"], "gold": 0})";

  EXPECT_EQ(ParseChoiceItems("f", line + "\n\n" + line + "\r\nbroken", 2)->size(), 2u);
}

TEST(ChoiceItems, NamesLineAndFault) {
  EXPECT_NE(MessageOf("").find("no item"), std::string::npos);
  EXPECT_NE(MessageOf("\n{").find("f:2"), std::string::npos);
  EXPECT_NE(MessageOf("[1]").find("object"), std::string::npos);
  EXPECT_NE(MessageOf(R"({"context": "a", "continuation": "b"})").find("choices"),
            std::string::npos);
  EXPECT_NE(MessageOf(R"({"query": "q", "choices": ["a"], "gold": 0})").find("choices"),
            std::string::npos);
  EXPECT_NE(MessageOf(R"({"query": "q", "choices": ["a", 1], "gold": 0})").find("choices"),
            std::string::npos);
  EXPECT_NE(MessageOf(R"({"query": "  ", "choices": ["a", "b"], "gold": 0})").find("query"),
            std::string::npos);
  for (const char* gold : {"2", "-1", "\"0\"", "0.5", "18446744073709551615"}) {
    const std::string item =
        std::string(R"({"query": "q", "choices": ["a", "b"], "gold": )") + gold;
    EXPECT_NE(MessageOf(item + "}").find("gold"), std::string::npos) << gold;
  }
}

// The corpora themselves, whole: every line has one of the two forms.
TEST(ChoiceItems, ReadsTheHarnessFiles) {
  for (const auto& [name, count] : {std::pair<const char*, size_t>("piqa", 1838),
                                    {"arc_easy", 2376},
                                    {"winogrande", 1267},
                                    {"copa", 100}}) {
    const std::string path = TestDataPath(std::string("eval/") + name + ".jsonl");
    COMET_REQUIRE_FILE(path);
    const Result<std::string> text = ReadTextFile(path, 1 << 24);
    ASSERT_TRUE(text.ok()) << text.status();

    const auto items = ParseChoiceItems(name, *text, 0);

    ASSERT_TRUE(items.ok()) << items.status();
    EXPECT_EQ(items->size(), count) << name;
  }
}

class TokenizedChoiceTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = TestDataPath("models/stories260K.gguf");
    COMET_REQUIRE_FILE(path);
    const auto source = FloatSource::Open(path);
    ASSERT_TRUE(source.ok()) << source.status();
    auto tokenizer = Tokenizer::Create((*source)->vocabulary());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(tokenizer).value();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenizedChoiceTest, ContextAndContinuationJoinToTheWholeText) {
  const ChoiceItem item{.options = {{"Once upon a time", " there was a cat."}}, .gold = 0};

  const auto tokenized = TokenizeChoiceItem(*tokenizer_, item, 64);

  ASSERT_TRUE(tokenized.ok()) << tokenized.status();
  const TokenizedOption& option = tokenized->options.front();
  const auto context = tokenizer_->Encode("Once upon a time", {});
  EXPECT_EQ(option.num_context, static_cast<int>(context->size()));
  EXPECT_EQ(tokenizer_->Decode(option.ids, false), "Once upon a time there was a cat.");
  EXPECT_EQ(option.continuation_bytes, 16);
}

TEST_F(TokenizedChoiceTest, RefusesWhatIsLongerThanTheContext) {
  const ChoiceItem item{.options = {{"Once upon a time", " there was a cat."}}, .gold = 0};

  const Status status = TokenizeChoiceItem(*tokenizer_, item, 5).status();

  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find("at most 5"), std::string::npos) << status;
}

}  // namespace
}  // namespace comet
