#include "engine/loader/tokenizer_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/text/test_data.h"
#include "tests/engine/text/vocabulary_files.h"

namespace comet {
namespace {

using nlohmann::ordered_json;

// A small file of LLaMA-3's kind; tests change a place of it by its JSON pointer.
ordered_json ByteLevelFile() {
  return ordered_json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 4, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 5, "content": "<x>", "single_word": false, "lstrip": true, "rstrip": false,
       "normalized": true, "special": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
      "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3}, "merges": ["a b", ["ab", "a"]]}})");
}

ordered_json SentencePieceFile() {
  ordered_json file = ordered_json::parse(R"({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true, "normalized": true}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "\u2581"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true,
      "vocab": {"<unk>": 0, "\u2581": 1, "a": 2, "\u2581a": 3}, "merges": ["\u2581 a"]}})");
  return file;
}

Result<Vocabulary> Parse(const ordered_json& file) {
  return ParseTokenizerJson("f.json", file.dump());
}

ordered_json With(ordered_json file, const char* pointer, const ordered_json& value) {
  file[ordered_json::json_pointer(pointer)] = value;
  return file;
}

void ExpectRefused(const ordered_json& file, StatusCode code, const std::string& in_message) {
  const Status status = Parse(file).status();
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(in_message), std::string::npos) << status;
}

TEST(TokenizerJson, ReadsByteLevel) {
  const Result<Vocabulary> vocabulary = Parse(ByteLevelFile());

  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->kind, TokenizerKind::kByteLevelBpe);
  EXPECT_EQ(vocabulary->pre_tokenizer, "smollm");
  EXPECT_EQ(vocabulary->merges, (std::vector<std::string>{"a b", "ab a"}));
  EXPECT_EQ(vocabulary->types[4], TokenType::kControl);
  EXPECT_EQ(vocabulary->types[5], TokenType::kUserDefined);
  // Without a normaliser `normalized` asks for nothing.
  EXPECT_EQ(vocabulary->added_token_rules,
            (std::vector<AddedTokenRule>{{.token_id = 5, .strips_left = true}}));
  EXPECT_TRUE(vocabulary->ignores_merges);
  EXPECT_TRUE(vocabulary->add_bos);
  EXPECT_FALSE(vocabulary->add_eos);
  EXPECT_EQ(vocabulary->bos_id, 4);
}

TEST(TokenizerJson, ReadsSentencePiecesPieces) {
  const Result<Vocabulary> vocabulary = Parse(SentencePieceFile());

  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->kind, TokenizerKind::kSentencePiece);
  EXPECT_TRUE(vocabulary->add_space_prefix);
  EXPECT_EQ(vocabulary->space_prefix, SpacePrefix::kEachPart);
  EXPECT_EQ(vocabulary->types[0], TokenType::kUnknown);
  EXPECT_EQ(vocabulary->unknown_id, 0);
}

TEST(TokenizerJson, JoinsByRankWhereScoresWouldNot) {
  ordered_json file = SentencePieceFile();
  file["model"]["vocab"] = {{"<unk>", 0}, {"\u2581", 1}, {"a", 2}, {"b", 3}, {"ab", 4}, {"ba", 5}};
  file["model"]["merges"] = {"b a", "a b"};

  const auto tokenizer = Tokenizer::Create(Parse(file).value());

  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("aba", {}).value(), (std::vector<int>{1, 2, 5}));
}

TEST(TokenizerJson, FillsAFewHolesAndNoMore) {
  const Result<Vocabulary> holed = Parse(With(ByteLevelFile(), "/model/vocab/c", 8));

  ASSERT_TRUE(holed.ok()) << holed.status();
  EXPECT_EQ(holed->pieces.size(), 9u);
  EXPECT_EQ(holed->types[6], TokenType::kUnused);
  ExpectRefused(With(ByteLevelFile(), "/model/vocab/c", 4000000), StatusCode::kDataLoss,
                "f.json.model.vocab.c: is 4000000, expected below 1031");
}

struct Refusal {
  const char* pointer;
  const char* value;
  StatusCode code;
  const char* in_message;
};

class TokenizerJsonRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(TokenizerJsonRefusals, NameTheirPath) {
  const Refusal& refusal = GetParam();

  ExpectRefused(With(ByteLevelFile(), refusal.pointer, ordered_json::parse(refusal.value)),
                refusal.code, refusal.in_message);
}

constexpr StatusCode kUnknown = StatusCode::kUnimplemented;
constexpr StatusCode kWrong = StatusCode::kDataLoss;

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerJsonRefusals,
    testing::Values(
        Refusal{"/extra", "1", kUnknown, "f.json.extra: is not a field known here"},
        Refusal{"/model/type", "\"Unigram\"", kUnknown, "f.json.model.type: is \"Unigram\""},
        Refusal{"/model/extra", "1", kUnknown, "f.json.model.extra"},
        Refusal{"/model/dropout", "0.1", kUnknown, "f.json.model.dropout: is 0.1"},
        Refusal{"/model/end_of_word_suffix", "\"</w>\"", kUnknown, "end_of_word_suffix"},
        Refusal{"/model/byte_fallback", "true", kUnknown, "f.json.model.byte_fallback"},
        Refusal{"/model/unk_token", "\"a\"", kUnknown, "f.json.model.unk_token"},
        Refusal{"/model/unk_token", "\"q\"", kWrong, "not in the vocabulary"},
        Refusal{"/model/vocab", "{}", kWrong, "f.json.model.vocab: is empty"},
        Refusal{"/model/vocab/b", "0", kWrong, "is 0, the id of"},
        Refusal{"/model/vocab/b", "4194304", kWrong, "f.json.model.vocab.b: is 4194304, expected "},
        Refusal{"/added_tokens/0/id", "4194304", kWrong, "expected below "},
        Refusal{"/model/vocab/b", "-1", kWrong, "f.json.model.vocab.b: is -1"},
        Refusal{"/model/vocab/b", "1e99", kWrong, "f.json.model.vocab.b"},
        Refusal{"/model/merges", "7", kWrong, "f.json.model.merges: is not an array"},
        Refusal{"/model/merges/0", "\"a  b\"", kWrong, "f.json.model.merges[0]: is \"a  b\""},
        Refusal{"/model/merges/0", "\"ab\"", kWrong, "f.json.model.merges[0]"},
        Refusal{"/model/merges/1", "[\"a\"]", kWrong, "neither text nor a pair"},
        Refusal{"/added_tokens/0/id", "0", kWrong, "is 0, the id of"},
        Refusal{"/added_tokens/0/content", "\"a\"", kWrong, "expected 0, the id of \"a\""},
        Refusal{"/added_tokens/0/content", "\"\"", kWrong, "content: is empty"},
        Refusal{"/added_tokens/0/other", "1", kUnknown, "f.json.added_tokens[0].other"},
        Refusal{"/normalizer", "{\"type\":\"NFKC\"}", kUnknown,
                "f.json.normalizer.type: is \"NFKC\", expected NFC"},
        Refusal{"/pre_tokenizer/pretokenizers/0/type", "\"Whitespace\"", kUnknown,
                "f.json.pre_tokenizer.pretokenizers[0].type: is \"Whitespace\""},
        Refusal{"/pre_tokenizer/pretokenizers/0/individual_digits", "false", kUnknown,
                "individual_digits: is false"},
        Refusal{"/pre_tokenizer/pretokenizers/1/add_prefix_space", "true", kUnknown,
                "add_prefix_space: is true"},
        Refusal{"/pre_tokenizer/pretokenizers/0",
                "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"}",
                kUnknown, "pretokenizers[0].pattern.Regex: is \"x+\""},
        Refusal{"/pre_tokenizer/pretokenizers/0",
                "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Removed\"}",
                kUnknown, "behavior: is \"Removed\""},
        Refusal{"/post_processor/type", "\"RobertaProcessing\"", kUnknown,
                "f.json.post_processor.type: is \"RobertaProcessing\""},
        Refusal{"/post_processor/special_tokens/<s>/ids", "[99]", kWrong, "ids"},
        Refusal{"/decoder", "null", kUnknown, "f.json.decoder: has 0 steps"},
        Refusal{"/decoder/type", "\"WordPiece\"", kUnknown, "f.json.decoder.type"}));

TEST(TokenizerJson, RefusesWhatIsNotJson) {
  EXPECT_EQ(ParseTokenizerJson("f", "{").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(ParseTokenizerJson("f", "[]").status().code(), StatusCode::kDataLoss);
  const Status deep = ParseTokenizerJson("f", std::string(100000, '[')).status();
  EXPECT_EQ(deep.code(), StatusCode::kDataLoss);
  EXPECT_NE(deep.message().find("nesting is 100000 deep"), std::string::npos) << deep;
}

// The copy of LLaMA-2's file in the test data lost its no-break spaces.
TEST(TokenizerJson, NamesTheMergeOfADamagedFile) {
  COMET_NEED_TEST_DATA(kLlama2JsonFile);

  const Status status =
      ParseTokenizerJson("f", ReadTestFile(TestDataPath(kLlama2JsonFile))).status();

  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_EQ(status.message(),
            "f.model.merges[18917]: is \"   \", expected two pieces without spaces");
}

}  // namespace
}  // namespace comet
