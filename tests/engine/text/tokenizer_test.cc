#include "engine/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "engine/tokenizer/byte_symbols.h"
#include "engine/tokenizer/streaming_detokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/check.h"
#include "tests/engine/text/test_data.h"
#include "tests/engine/text/vocabulary_files.h"

namespace comet {
namespace {

constexpr char kSmolLm2[] = "tokenizers/smollm2/tokenizer.json";
constexpr char kLlama2[] = "tokenizers/llama2/tokenizer.model";

using Ids = std::vector<int>;

std::unique_ptr<Tokenizer> Make(Vocabulary vocabulary) {
  auto tokenizer = Tokenizer::Create(std::move(vocabulary));
  COMET_CHECK_MSG(tokenizer.ok(), tokenizer.status().message());
  return std::move(tokenizer).value();
}

// The 256 byte symbols, "ab" and "bc", and two control tokens.
Vocabulary SmallByteLevel() {
  Vocabulary vocabulary;
  vocabulary.pre_tokenizer = "gpt-2";
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.pieces.push_back(ByteSymbol(static_cast<uint8_t>(byte)));
  }
  vocabulary.pieces.insert(vocabulary.pieces.end(), {"ab", "bc", "<bos>", "<|im_end|>"});
  vocabulary.types.assign(vocabulary.pieces.size(), TokenType::kNormal);
  vocabulary.types[258] = vocabulary.types[259] = TokenType::kControl;
  vocabulary.merges = {"b c", "a b"};
  vocabulary.bos_id = 258;
  vocabulary.eos_id = 259;
  return vocabulary;
}

// "<unk>", "<s>", the 256 byte tokens, and a few pieces.
Vocabulary SmallSentencePiece() {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kSentencePiece;
  vocabulary.pieces = {"<unk>", "<s>"};
  vocabulary.types = {TokenType::kUnknown, TokenType::kControl};
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    vocabulary.pieces.push_back(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
    vocabulary.types.push_back(TokenType::kByte);
  }
  for (const char* piece : {"\u2581", "a", "b", "ab", "\u2581a", "<fix>"}) {
    vocabulary.pieces.push_back(piece);
    vocabulary.types.push_back(TokenType::kNormal);
  }
  vocabulary.types.back() = TokenType::kUserDefined;
  vocabulary.scores.assign(vocabulary.pieces.size(), 0.0f);
  vocabulary.scores[261] = -1;  // "ab" joins before "\u2581a".
  vocabulary.scores[262] = -2;
  vocabulary.unknown_id = 0;
  vocabulary.bos_id = 1;
  vocabulary.add_space_prefix = true;
  return vocabulary;
}

Ids EncodePlain(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.Encode(text, {.add_special = false}).value();
}

TEST(ByteLevelBpe, JoinsByRankNotByPosition) {
  EXPECT_EQ(EncodePlain(*Make(SmallByteLevel()), "abc"), (Ids{'a', 257}));
}

TEST(ByteLevelBpe, AddsBosAndEosWhereTheVocabularyAsks) {
  Vocabulary vocabulary = SmallByteLevel();
  vocabulary.add_bos = true;
  vocabulary.add_eos = true;

  EXPECT_EQ(Make(vocabulary)->Encode("ab", {}).value(), (Ids{258, 256, 259}));
  EXPECT_EQ(EncodePlain(*Make(vocabulary), "ab"), Ids{256});
}

TEST(ByteLevelBpe, ReadsControlTokensOnlyWhenAsked) {
  const auto tokenizer = Make(SmallByteLevel());

  const Ids parsed = tokenizer->Encode("ab<|im_end|>ab", {.parse_special = true}).value();

  EXPECT_EQ(parsed, (Ids{256, 259, 256}));
  EXPECT_EQ(EncodePlain(*tokenizer, "<|im_end|>").size(), 10u);
}

TEST(ByteLevelBpe, PrefersTheLongestControlToken) {
  Vocabulary vocabulary = SmallByteLevel();
  vocabulary.pieces.push_back("<|im_end|>>");
  vocabulary.types.push_back(TokenType::kControl);

  const Ids ids = Make(vocabulary)->Encode("<|im_end|>>", {.parse_special = true}).value();

  EXPECT_EQ(ids, Ids{260});
}

TEST(ByteLevelBpe, AlwaysReadsUserDefinedTokens) {
  Vocabulary vocabulary = SmallByteLevel();
  vocabulary.types[258] = TokenType::kUserDefined;

  EXPECT_EQ(EncodePlain(*Make(vocabulary), "ab<bos>"), (Ids{256, 258}));
}

TEST(ByteLevelBpe, RoundTripsEveryByteSequence) {
  const auto tokenizer = Make(SmallByteLevel());
  std::mt19937 random(7);

  for (int i = 0; i < 200; ++i) {
    std::string bytes;
    for (int n = i; n > 0; --n) bytes.push_back(static_cast<char>(random() & 0xFF));
    EXPECT_EQ(tokenizer->Decode(EncodePlain(*tokenizer, bytes), false), bytes);
  }
}

// The expected ids are those of Hugging Face's tokenizers 0.23, Digits before ByteLevel.
TEST(ByteLevelBpe, DropsBytesWithoutTokenAndJoinsTheirNeighbours) {
  COMET_NEED_TEST_DATA(kSmolLm2);
  const auto tokenizer = Make(LoadSmolLm2());

  EXPECT_EQ(EncodePlain(*tokenizer, "\x04"), Ids{});
  EXPECT_EQ(EncodePlain(*tokenizer, "!\x04!"), Ids{10095});
  EXPECT_EQ(EncodePlain(*tokenizer, "=\x04=\x04=\x06="), Ids{2031});
  EXPECT_EQ(EncodePlain(*tokenizer, "th\x04\x04is"), (Ids{373, 271}));
  EXPECT_EQ(EncodePlain(*tokenizer, "\U000C0000"), (Ids{188, 218, 218, 218}));
}

TEST(ByteLevelBpe, SmolLmCutsDigitsAndKeepsSpacesBeforeThemTogether) {
  COMET_NEED_TEST_DATA(kSmolLm2);
  const auto tokenizer = Make(LoadSmolLm2());

  EXPECT_EQ(EncodePlain(*tokenizer, "a   b  1 c\u180e d\u3000 e\u0085f"),
            (Ids{81, 256, 278, 256, 33, 265, 172, 250, 232, 287, 12109, 218, 297, 141, 223, 86}));
  EXPECT_EQ(EncodePlain(*tokenizer, "\u0661\u0662 \u00BD\u2167 x\u00B2"),
            (Ids{164, 111, 164, 112, 216, 16738, 173, 223, 117, 1792, 19133}));
}

TEST(ByteLevelBpe, EncodesAMegabyteWithoutBreaks) {
  COMET_NEED_TEST_DATA(kSmolLm2);
  const auto tokenizer = Make(LoadSmolLm2());

  for (const char c : {'a', ' ', '!', '\n'}) {
    const std::string text(1'000'000, c);
    EXPECT_EQ(tokenizer->Decode(EncodePlain(*tokenizer, text), false), text);
  }
}

TEST(ByteLevelBpe, RefusesAVocabularyThatContradictsItself) {
  Vocabulary merge_unknown = SmallByteLevel();
  merge_unknown.merges.push_back("x y");
  Vocabulary merge_malformed = SmallByteLevel();
  merge_malformed.merges.push_back("xy");
  Vocabulary types_short = SmallByteLevel();
  types_short.types.pop_back();
  Vocabulary bos_missing = SmallByteLevel();
  bos_missing.add_bos = true;
  bos_missing.bos_id = -1;
  Vocabulary eos_large = SmallByteLevel();
  eos_large.eos_id = 260;

  for (const Vocabulary& vocabulary :
       {merge_unknown, merge_malformed, types_short, bos_missing, eos_large, Vocabulary()}) {
    EXPECT_EQ(Tokenizer::Create(vocabulary).status().code(), StatusCode::kInvalidArgument);
  }
  EXPECT_NE(Tokenizer::Create(merge_unknown).status().message().find("merges[2] is 'x y'"),
            std::string::npos);
}

TEST(ByteLevelBpe, NamesAnUnknownPreTokenizer) {
  Vocabulary vocabulary = SmallByteLevel();
  vocabulary.pre_tokenizer = "klingon";

  const Status status = Tokenizer::Create(vocabulary).status();

  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("klingon"), std::string::npos);
}

TEST(SentencePiece, JoinsByScore) {
  EXPECT_EQ(EncodePlain(*Make(SmallSentencePiece()), "ab"), (Ids{258, 261}));
}

TEST(SentencePiece, FallsBackToBytes) {
  EXPECT_EQ(EncodePlain(*Make(SmallSentencePiece()), "\u00E9"), (Ids{258, 2 + 0xC3, 2 + 0xA9}));
}

TEST(SentencePiece, FusesUnknownCharactersWithoutByteTokens) {
  Vocabulary vocabulary = SmallSentencePiece();
  for (TokenType& type : vocabulary.types) {
    if (type == TokenType::kByte) type = TokenType::kUnused;
  }

  EXPECT_EQ(EncodePlain(*Make(vocabulary), "xyz b"), (Ids{258, 0, 258, 260}));
}

TEST(SentencePiece, NeverJoinsUserDefinedPieces) {
  EXPECT_EQ(EncodePlain(*Make(SmallSentencePiece()), "a<fix>b"), (Ids{262, 263, 260}));
}

TEST(SentencePiece, PrefixesEachPartAfterAControlToken) {
  const auto tokenizer = Make(SmallSentencePiece());

  EXPECT_EQ(tokenizer->Encode("a<s>a", {.parse_special = true}).value(), (Ids{262, 1, 262}));
  EXPECT_EQ(EncodePlain(*tokenizer, ""), Ids{});
}

TEST(SentencePiece, JoinsAcrossWordsWhereAPieceDoes) {
  Vocabulary vocabulary = SmallSentencePiece();
  vocabulary.pieces.push_back("b\u2581");
  vocabulary.types.push_back(TokenType::kNormal);
  vocabulary.scores.push_back(1);

  EXPECT_EQ(EncodePlain(*Make(vocabulary), "b b"), (Ids{258, 264, 260}));
}

TEST(SentencePiece, ReadsEachInvalidByteAsReplacementCharacter) {
  COMET_NEED_TEST_DATA(kLlama2);
  const auto tokenizer = Make(LoadLlama2Model());

  // As Python's sentencepiece 0.2.3.
  EXPECT_EQ(EncodePlain(*tokenizer,
                        "a\xFF"
                        "b"),
            (Ids{263, 30140, 29890}));
  EXPECT_EQ(EncodePlain(*tokenizer, "\xF0\x9F\x98 hi"), (Ids{29871, 26308, 30140, 7251}));
}

TEST(SentencePiece, RefusesBadScoresAndByteTokens) {
  Vocabulary scores_short = SmallSentencePiece();
  scores_short.scores.pop_back();
  Vocabulary score_nan = SmallSentencePiece();
  score_nan.scores[3] = std::numeric_limits<float>::quiet_NaN();
  Vocabulary byte_malformed = SmallSentencePiece();
  byte_malformed.pieces[7] = "<0xZZ>";

  for (const Vocabulary& vocabulary : {scores_short, score_nan, byte_malformed}) {
    EXPECT_EQ(Tokenizer::Create(vocabulary).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(Tokenizer, DecodeShowsControlTokensOnlyWhenAsked) {
  const auto tokenizer = Make(SmallByteLevel());

  EXPECT_EQ(tokenizer->Decode({258, 256, 259, -1, 9999}, false), "ab");
  EXPECT_EQ(tokenizer->Decode({258, 256, 259}, true), "<bos>ab<|im_end|>");
}

TEST(Tokenizer, DecodeRemovesTheSpacePrefixOnce) {
  const auto tokenizer = Make(SmallSentencePiece());

  EXPECT_EQ(tokenizer->Decode({1, 262, 262}, false), "a a");
  EXPECT_EQ(tokenizer->Decode({258, 262}, false), " a");
}

TEST(Tokenizer, KnowsEndOfTurnTokensByName) {
  Vocabulary vocabulary = SmallByteLevel();
  vocabulary.eos_id = 258;

  EXPECT_EQ(Make(vocabulary)->end_of_generation_ids(), (Ids{258, 259}));
}

// The bytes read as a whole, the longest broken prefix of a character becoming one U+FFFD.
std::string ReplaceInvalid(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const Utf8Char next = ReadUtf8Char(bytes);
    text += next.state == Utf8State::kValid ? bytes.substr(0, next.num_bytes) : kReplacementChar;
    bytes.remove_prefix(next.num_bytes);
  }
  return text;
}

std::string Stream(const Tokenizer& tokenizer, const Ids& ids, bool continues_text) {
  StreamingDetokenizer stream(tokenizer, /*with_special=*/false, continues_text);
  std::string text;
  for (const int id : ids) text += stream.Push(id);
  return text + stream.Finish();
}

TEST(StreamingDetokenizer, EqualsWholeDecodingOfRandomText) {
  COMET_NEED_TEST_DATA(kSmolLm2);
  const auto smollm2 = Make(LoadSmolLm2());
  const auto llama2 = Make(LoadLlama2Model());
  std::mt19937 random(11);

  for (const Tokenizer* tokenizer : {smollm2.get(), llama2.get()}) {
    for (int i = 0; i < 200; ++i) {
      std::string text;
      for (int n = 0; n < 40; ++n) {
        constexpr const char* kParts[] = {"the ", " cat", "\U0001F30D", "\u4E16", " ", "\n", "7"};
        text += kParts[random() % std::size(kParts)];
      }
      EXPECT_EQ(Stream(*tokenizer, EncodePlain(*tokenizer, text), false), text);
    }
  }
}

TEST(StreamingDetokenizer, EqualsDecodingOfRandomTokensWithInvalidBytesReplaced) {
  COMET_NEED_TEST_DATA(kLlama2);
  const auto tokenizer = Make(LoadLlama2Model());
  std::mt19937 random(13);

  for (int i = 0; i < 500; ++i) {
    Ids ids;
    // Byte tokens, mostly continuation and lead bytes, and some words.
    for (int n = 0; n < 20; ++n) {
      ids.push_back(random() % 4 == 0 ? static_cast<int>(random() % 32000)
                                      : 3 + 0x80 + static_cast<int>(random() % 0x80));
    }
    StreamingDetokenizer stream(*tokenizer, false);
    std::string pieces;
    for (const int id : ids) {
      const std::string piece = stream.Push(id);
      EXPECT_EQ(ReplaceInvalid(piece), piece);
      pieces += piece;
    }
    EXPECT_EQ(pieces + stream.Finish(), ReplaceInvalid(tokenizer->Decode(ids, false)));
  }
}

TEST(StreamingDetokenizer, HoldsBackUnfinishedCharacters) {
  const auto tokenizer = Make(SmallSentencePiece());
  StreamingDetokenizer stream(*tokenizer, false);

  EXPECT_EQ(stream.Push(2 + 0xF0), "");
  EXPECT_EQ(stream.Push(2 + 0x9F), "");
  EXPECT_EQ(stream.Push(2 + 0x8C), "");
  EXPECT_EQ(stream.Push(2 + 0x8D), "\U0001F30D");
  EXPECT_EQ(stream.Push(2 + 0xE4), "");
  EXPECT_EQ(stream.Finish(), "\uFFFD");
}

TEST(StreamingDetokenizer, KeepsTheLeadingSpaceWhenItContinuesText) {
  const auto tokenizer = Make(SmallSentencePiece());

  EXPECT_EQ(Stream(*tokenizer, {262, 262}, false), "a a");
  EXPECT_EQ(Stream(*tokenizer, {262, 262}, true), " a a");
}

}  // namespace
}  // namespace comet
