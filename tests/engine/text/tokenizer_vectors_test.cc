#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/text/test_data.h"
#include "tests/engine/text/vocabulary_files.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr char kVectors[] = "tokenizer-vectors/vectors.jsonl";
constexpr int kNumVectors = 461;

// Encodes every text of the vectors and compares the ids with those under `name`, and decodes them.
void ExpectVectors(Vocabulary vocabulary, const char* name) {
  const auto tokenizer = Tokenizer::Create(std::move(vocabulary));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::istringstream lines(ReadTestFile(TestDataPath(kVectors)));
  std::string line;
  int num_vectors = 0;

  while (std::getline(lines, line)) {
    const json vector = json::parse(line);
    const std::string text = vector["text"];
    const auto ids = (*tokenizer)->Encode(text, {.add_special = false});

    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, vector[name].get<std::vector<int>>()) << text;
    EXPECT_EQ((*tokenizer)->Decode(*ids, /*with_special=*/false), text);
    ++num_vectors;
  }

  EXPECT_EQ(num_vectors, kNumVectors);
}

TEST(TokenizerVectors, SmolLm2) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(ReadTokenizerJson(TestDataPath("tokenizers/smollm2/tokenizer.json"), "smollm"),
                "smollm2");
}

TEST(TokenizerVectors, Llama3) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(ReadTiktoken(TestDataPath("tokenizers/llama3/tokenizer.model"), "llama-bpe"),
                "llama3");
}

TEST(TokenizerVectors, Llama2) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(ReadSentencePieceModel(TestDataPath("tokenizers/llama2/tokenizer.model")),
                "llama2");
}

TEST(TokenizerVectors, MistralV1) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(ReadSentencePieceModel(TestDataPath("tokenizers/mistral/tokenizer.model.v1")),
                "mistral_v1");
}

TEST(TokenizerVectors, MistralV3) {
  COMET_NEED_TEST_DATA(kVectors);
  ExpectVectors(ReadSentencePieceModel(
                    TestDataPath("tokenizers/mistral/mistral_instruct_tokenizer_240323.model.v3")),
                "mistral_v3");
}

}  // namespace
}  // namespace comet
