#include <gtest/gtest.h>

#include <random>
#include <string>

#include "engine/tokenizer/streaming_detokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/check.h"
#include "tests/engine/text/test_data.h"
#include "tests/engine/text/vocabulary_files.h"

namespace comet {
namespace {

constexpr char kSmolLm2[] = "tokenizers/smollm2/tokenizer.json";
constexpr char kLlama2[] = "tokenizers/llama2/tokenizer.model";

// Bytes that look like text, broken text, and noise.
std::string RandomBytes(std::mt19937& random) {
  constexpr const char* kParts[] = {"<|im_start|>", "<s>",
                                    "<0x41>",       "\xE2\x96\x81",
                                    "\xED\xA0\x80", "\xF4\x90",
                                    "\xC0",         " ",
                                    "\r\n",         "99",
                                    "'s",           "\xFF",
                                    "the",          "\xF0\x9F\x8C\x8D"};
  std::string bytes;
  for (int n = static_cast<int>(random() % 60); n > 0; --n) {
    if (random() % 2 == 0) {
      bytes += kParts[random() % std::size(kParts)];
    } else {
      bytes.push_back(static_cast<char>(random() & 0xFF));
    }
  }
  return bytes;
}

void ExpectSurvivesRandomBytes(Vocabulary vocabulary) {
  const auto tokenizer = Tokenizer::Create(std::move(vocabulary));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::mt19937 random(17);

  for (int i = 0; i < 20'000; ++i) {
    const std::string bytes = RandomBytes(random);
    const auto ids = (*tokenizer)->Encode(bytes, {.parse_special = i % 2 == 0});

    ASSERT_TRUE(ids.ok()) << ids.status();
    StreamingDetokenizer stream(**tokenizer, i % 3 == 0);
    for (const int id : *ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, (*tokenizer)->vocab_size());
      stream.Push(id);
    }
    stream.Finish();
  }
}

TEST(TokenizerHostile, ByteLevelSurvivesRandomBytes) {
  COMET_NEED_TEST_DATA(kSmolLm2);
  ExpectSurvivesRandomBytes(LoadSmolLm2());
}

TEST(TokenizerHostile, SentencePieceSurvivesRandomBytes) {
  COMET_NEED_TEST_DATA(kLlama2);
  ExpectSurvivesRandomBytes(LoadLlama2Model());
}

TEST(TokenizerHostile, RandomVocabulariesAreRefusedOrWork) {
  std::mt19937 random(19);

  for (int i = 0; i < 3000; ++i) {
    Vocabulary vocabulary;
    vocabulary.kind = i % 2 == 0 ? TokenizerKind::kByteLevelBpe : TokenizerKind::kSentencePiece;
    vocabulary.pre_tokenizer = "qwen2";
    const int vocab_size = static_cast<int>(random() % 20);
    for (int id = 0; id < vocab_size; ++id) {
      vocabulary.pieces.push_back(RandomBytes(random).substr(0, random() % 4));
      vocabulary.types.push_back(static_cast<TokenType>(1 + random() % 5));
      vocabulary.scores.push_back(static_cast<float>(random() % 5));
    }
    for (int n = static_cast<int>(random() % 3); n > 0 && vocab_size > 0; --n) {
      vocabulary.merges.push_back(vocabulary.pieces[random() % vocab_size] + " " +
                                  vocabulary.pieces[random() % vocab_size]);
    }
    if (!vocabulary.merges.empty()) vocabulary.scores.clear();
    if (vocab_size > 0 && i % 3 == 0) {
      vocabulary.added_token_rules.push_back({.token_id = static_cast<int>(random() % vocab_size),
                                              .strips_left = random() % 2 == 0,
                                              .strips_right = random() % 2 == 0,
                                              .is_whole_word = random() % 2 == 0,
                                              .is_normalized = random() % 2 == 0});
    }
    vocabulary.normalizes_nfc = random() % 2 == 0;
    vocabulary.add_space_prefix = random() % 2 == 0;
    vocabulary.space_prefix = static_cast<SpacePrefix>(random() % 3);
    vocabulary.unknown_id = static_cast<int>(random() % 6) - 1;

    const auto tokenizer = Tokenizer::Create(vocabulary);

    if (!tokenizer.ok()) continue;
    const auto ids = (*tokenizer)->Encode(RandomBytes(random), {.parse_special = true});
    ASSERT_TRUE(ids.ok());
    (*tokenizer)->Decode(*ids, true);
  }
}

}  // namespace
}  // namespace comet
