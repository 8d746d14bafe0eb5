#include "engine/loader/text_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/loader/gguf_file.h"
#include "engine/tokenizer/tokenizer.h"

namespace comet {
namespace {

constexpr char kTokenizerJson[] = R"({
  "added_tokens": [{"id": 3, "content": "<s>", "special": true},
                   {"id": 4, "content": "</s>", "special": true}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";
constexpr int kNumTokens = 5;

// A Hugging Face folder with a small tokenizer.json.
class TextFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    // Of its own: tests run side by side, each in a process.
    folder_ = testing::TempDir() + "comet_text_files_XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    Write("tokenizer.json", kTokenizerJson);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }

  void ExpectDataLoss(const std::string& in_message, int num_rows = kNumTokens) {
    const Status status = ReadTextFiles(folder_, num_rows).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
    EXPECT_NE(status.message().find(in_message), std::string::npos) << status;
  }

  std::string folder_;
};

using Templates = std::vector<NamedTemplate>;

TEST_F(TextFilesTest, NeedsOnlyAVocabulary) {
  const Result<TextFiles> files = ReadTextFiles(folder_, kNumTokens);

  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->vocabulary.pieces.size(), 5u);
  EXPECT_EQ(files->vocabulary.bos_id, -1);
  EXPECT_TRUE(files->chat_templates.empty());
  EXPECT_TRUE(files->eos_ids.empty());
}

TEST_F(TextFilesTest, SaysSoWithoutAVocabulary) {
  std::filesystem::remove(folder_ + "/tokenizer.json");

  const Status status = ReadTextFiles(folder_, kNumTokens).status();

  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("tokenizer.json or tokenizer.model"), std::string::npos);
}

TEST_F(TextFilesTest, ReadsSpecialTokensAndTemplates) {
  Write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "add_bos_token": true,
        "chat_template": "{{ messages }}", "model_max_length": 1e30})");
  Write("special_tokens_map.json", R"({"eos_token": "</s>", "bos_token": "</s>"})");
  Write("generation_config.json", R"({"eos_token_id": [4, 3, 4]})");

  const Result<TextFiles> files = ReadTextFiles(folder_, kNumTokens);

  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->vocabulary.bos_id, 3);
  EXPECT_EQ(files->vocabulary.eos_id, 4);
  EXPECT_TRUE(files->vocabulary.add_bos);
  EXPECT_EQ(files->eos_ids, (std::vector<int>{4, 3}));
  EXPECT_EQ(files->chat_templates, (Templates{{"default", "{{ messages }}"}}));
}

TEST_F(TextFilesTest, ReadsNamedTemplatesDefaultFirst) {
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "t"},
        {"name": "default", "template": "d"}]})");
  Write("additional_chat_templates/rag.jinja", "r");

  const Result<TextFiles> files = ReadTextFiles(folder_, kNumTokens);

  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->chat_templates, (Templates{{"default", "d"}, {"tool_use", "t"}, {"rag", "r"}}));
}

TEST_F(TextFilesTest, SaysThatTemplatesCannotBeListed) {
  Write("additional_chat_templates", "no folder");

  const Status status = ReadTextFiles(folder_, kNumTokens).status();

  EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
  EXPECT_NE(status.message().find("additional_chat_templates: cannot be listed"), std::string::npos)
      << status;
}

TEST_F(TextFilesTest, PrefersTheTemplateFile) {
  Write("tokenizer_config.json", R"({"chat_template": "config"})");
  Write("chat_template.jinja", "file");

  EXPECT_EQ(ReadTextFiles(folder_, kNumTokens)->chat_templates, (Templates{{"default", "file"}}));
}

TEST_F(TextFilesTest, RefusesTemplatesWithoutAGoodName) {
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "../x", "template": "t"}]})");
  ExpectDataLoss("chat_template[0]: name is \"../x\"");
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "a", "template": "t"},
        {"name": "a", "template": "u"}]})");
  ExpectDataLoss("\"a\" is the name of another template too");
  Write("tokenizer_config.json", R"({"chat_template": 7})");
  ExpectDataLoss("chat_template: is 7, expected a string");
}

TEST_F(TextFilesTest, RefusesAVocabularyOfAnotherModel) {
  ExpectDataLoss(
      "tokenizer.json: vocabulary has 5 tokens, expected one for each of the "
      "embedding's 4 rows",
      4);
  ExpectDataLoss("embedding's 32000 rows", 32000);
}

TEST_F(TextFilesTest, PadsToTheRowsOfTheEmbedding) {
  const Result<TextFiles> files = ReadTextFiles(folder_, 64);

  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->vocabulary.pieces.size(), 64u);
  EXPECT_EQ(files->vocabulary.types[63], TokenType::kUnused);
  EXPECT_TRUE(Tokenizer::Create(files->vocabulary).ok());
}

TEST_F(TextFilesTest, AddsTokensOfTheConfig) {
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {
        "3": {"content": "<s>", "special": true}, "5": {"content": "<new>", "special": false}}})");

  const Result<TextFiles> files = ReadTextFiles(folder_, 6);

  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->vocabulary.pieces[5], "<new>");
  EXPECT_EQ(files->vocabulary.types[5], TokenType::kUserDefined);
}

TEST_F(TextFilesTest, RefusesConfigsThatContradictTheVocabulary) {
  Write("tokenizer_config.json", R"({"bos_token": "<bos>"})");
  ExpectDataLoss("tokenizer_config.json.bos_token: is \"<bos>\", expected a token of");
  Write("tokenizer_config.json", R"({"add_bos_token": true})");
  ExpectDataLoss("add_bos_token: is true, but no such token is named");
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {"0": {"content": "x"}}})");
  ExpectDataLoss("added_tokens_decoder.0.content: is \"x\", expected \"a\"");
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "x"}}})");
  ExpectDataLoss("expected an id as its name");
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {"4000000": {"content": "x"}}})");
  ExpectDataLoss("id is 4000000, expected at most 1024 more than the 5 tokens");
  Write("tokenizer_config.json", "{}");
  Write("generation_config.json", R"({"eos_token_id": 5})");
  ExpectDataLoss("generation_config.json.eos_token_id: is 5, expected an integer from 0 to 4");
}

TEST_F(TextFilesTest, ReadsTheOlderFileOfAddedTokens) {
  std::filesystem::remove(folder_ + "/tokenizer.json");
  Write("tokenizer.model", "YQ== 0\n");
  Write("added_tokens.json", R"({"<pad>": 257, "plain": 258})");
  Write("special_tokens_map.json", R"({"additional_special_tokens": [{"content": "<pad>"}]})");

  const Result<TextFiles> files = ReadTextFiles(folder_, 259);

  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->vocabulary.pieces[257], "<pad>");
  EXPECT_EQ(files->vocabulary.types[257], TokenType::kControl);
  EXPECT_EQ(files->vocabulary.types[258], TokenType::kUserDefined);
  Write("added_tokens.json", R"({"x": 0})");
  ExpectDataLoss("added_tokens.json.x: is 0, expected \"a\" of", 259);
}

TEST_F(TextFilesTest, ReadsTiktokenUnderItsOtherName) {
  std::filesystem::remove(folder_ + "/tokenizer.json");
  Write("tokenizer.model", "YQ== 0\nYg== 1\nYWI= 2\n");
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {
        "5": {"content": "<|mine|>", "special": true}}, "eos_token": "<|eot_id|>"})");

  const Result<TextFiles> files = ReadTextFiles(folder_, 3 + 256);

  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->vocabulary.pieces[5], "<|mine|>");
  EXPECT_EQ(files->vocabulary.eos_id, 3 + 9);
  EXPECT_EQ(files->eos_ids, std::vector<int>{3 + 9});
}

TEST(NamedTemplates, ChoosesByNameOrTheDefault) {
  const Templates templates = {{"default", "d"}, {"tool_use", "t"}};

  EXPECT_EQ(ChooseTemplate(templates, "").value(), "d");
  EXPECT_EQ(ChooseTemplate(templates, "tool_use").value(), "t");
  EXPECT_EQ(ChooseTemplate({{"rag", "r"}}, "").value(), "r");
  EXPECT_EQ(ChooseTemplate({}, "").value(), "");
  EXPECT_EQ(ChooseTemplate(templates, "rag").status().message(),
            "chat template: \"rag\" is not one of the model's, expected default, tool_use");
  EXPECT_FALSE(ChooseTemplate({}, "rag").ok());
  EXPECT_FALSE(ChooseTemplate({{"a", "1"}, {"b", "2"}}, "").ok());
}

}  // namespace
}  // namespace comet
