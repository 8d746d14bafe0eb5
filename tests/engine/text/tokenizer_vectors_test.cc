#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/text/test_data.h"
#include "tests/engine/text/vocabulary_files.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr char kVectors[] = "tokenizer-vectors/vectors.jsonl";
constexpr int kNumVectors = 461;

// The vocabulary as a checkpoint keeps it.
Vocabulary ThroughGguf(const Vocabulary& vocabulary) {
  // Of its test: tests run side by side, each in a process.
  const std::string path = testing::TempDir() + "comet_vocabulary_" +
                           testing::UnitTest::GetInstance()->current_test_info()->name() + ".gguf";
  std::ofstream(path, std::ios::binary) << VocabularyGguf(vocabulary);
  const Result<GgufFile> file = GgufFile::Open(path);
  std::remove(path.c_str());
  EXPECT_TRUE(file.ok()) << file.status();
  Result<Vocabulary> copy = ReadVocabulary(*file);
  EXPECT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(*copy, vocabulary);
  return std::move(copy).value();
}

std::unique_ptr<Tokenizer> MakeThroughGguf(const Vocabulary& vocabulary) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(ThroughGguf(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

// Encodes every text of the vectors and compares the ids with those under `name`, and decodes them.
void ExpectVectors(const Tokenizer& tokenizer, const char* name) {
  std::istringstream lines(ReadTestFile(TestDataPath(kVectors)));
  std::string line;
  int num_vectors = 0;

  while (std::getline(lines, line)) {
    const json vector = json::parse(line);
    const std::string text = vector["text"];
    const auto ids = tokenizer.Encode(text, {.add_special = false});

    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, vector[name].get<std::vector<int>>()) << text;
    EXPECT_EQ(tokenizer.Decode(*ids, /*with_special=*/false), text);
    ++num_vectors;
  }

  EXPECT_EQ(num_vectors, kNumVectors);
}

// llama.cpp's own: texts divided by a line, and a line of ids for each.
void ExpectLlamaCppVectors(const Tokenizer& tokenizer, const std::string& name) {
  constexpr std::string_view kDivider = "\n__ggml_vocab_test__\n";
  constexpr int kNumLlamaCppVectors = 46;
  const std::string stem = TestDataPath("tokenizer-vectors/llama.cpp/ggml-vocab-" + name + ".gguf");
  const std::string inputs = ReadTestFile(stem + ".inp");
  std::istringstream outputs(ReadTestFile(stem + ".out"));
  std::string line;
  int num_vectors = 0;

  for (size_t begin = 0; begin < inputs.size(); ++num_vectors) {
    const size_t end = inputs.find(kDivider, begin);
    if (end == std::string::npos) break;
    const std::string text = inputs.substr(begin, end - begin);
    begin = end + kDivider.size();
    ASSERT_TRUE(std::getline(outputs, line)) << name;
    std::istringstream numbers(line);
    const std::vector<int> expected{std::istream_iterator<int>(numbers), {}};

    EXPECT_EQ(tokenizer.Encode(text, {.add_special = false}).value(), expected) << text;
  }

  EXPECT_EQ(num_vectors, kNumLlamaCppVectors);
}

TEST(TokenizerVectors, SmolLm2Json) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(*MakeThroughGguf(LoadSmolLm2()), "smollm2");
}

TEST(TokenizerVectors, Llama3Tiktoken) {
  COMET_NEED_TEST_DATA(kVectors);
  const auto tokenizer = MakeThroughGguf(LoadLlama3Tiktoken());
  ExpectVectors(*tokenizer, "llama3");
  ExpectLlamaCppVectors(*tokenizer, "llama-bpe");
}

// Phi-3's vocabulary is LLaMA-2's with other control tokens, which these texts do not have.
TEST(TokenizerVectors, Llama2Model) {
  COMET_NEED_TEST_DATA(kVectors);
  const auto tokenizer = MakeThroughGguf(LoadLlama2Model());
  ExpectVectors(*tokenizer, "llama2");
  ExpectLlamaCppVectors(*tokenizer, "llama-spm");
  ExpectLlamaCppVectors(*tokenizer, "phi-3");
}

TEST(TokenizerVectors, Llama2Json) {
  COMET_NEED_TEST_DATA(kVectors);
  const auto tokenizer = MakeThroughGguf(LoadLlama2Json());
  ExpectVectors(*tokenizer, "llama2");
  ExpectLlamaCppVectors(*tokenizer, "llama-spm");
}

TEST(TokenizerVectors, MistralV1) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(*MakeThroughGguf(LoadMistralV1()), "mistral_v1");
}

TEST(TokenizerVectors, MistralV3) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(*MakeThroughGguf(LoadMistralV3()), "mistral_v3");
}

}  // namespace
}  // namespace comet
