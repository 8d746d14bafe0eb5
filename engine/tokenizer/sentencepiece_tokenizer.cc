#include "engine/tokenizer/sentencepiece_tokenizer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <utility>

#include "engine/tokenizer/stretch_memo.h"
#include "engine/tokenizer/symbol_merger.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581.

// The byte that "<0x0A>" names, or -1.
int ParseByteToken(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  int byte = 0;
  const auto [end, error] = std::from_chars(piece.data() + 3, piece.data() + 5, byte, 16);
  return error == std::errc() && end == piece.data() + 5 ? byte : -1;
}

// How many bytes come before the first space that follows something else than a space.
size_t FirstWordBytes(std::string_view escaped) {
  size_t pos = 0;
  while (escaped.substr(pos).starts_with(kEscapedSpace)) pos += kEscapedSpace.size();
  return std::min(escaped.find(kEscapedSpace, pos), escaped.size());
}

}  // namespace

// A stretch of the escaped text.
struct SentencePieceTokenizer::Symbol {
  std::string_view text;
  int token_id;    // -1: not a piece.
  bool is_frozen;  // User-defined: joins nothing.
};

struct SentencePieceTokenizer::ScoreRule {
  using Priority = float;

  bool Find(const Symbol& left, const Symbol& right, float& priority, Symbol& joined) const {
    if (left.is_frozen || right.is_frozen) return false;
    // Symbols that are neighbours lie side by side in the escaped text.
    joined.text = {left.text.data(), left.text.size() + right.text.size()};
    joined.token_id = tokenizer.FindToken(joined.text);
    joined.is_frozen = false;
    if (joined.token_id < 0) return false;
    if (tokenizer.vocabulary().types[joined.token_id] != TokenType::kNormal) return false;
    priority = -tokenizer.vocabulary().scores[joined.token_id];
    return true;
  }

  const SentencePieceTokenizer& tokenizer;
};

SentencePieceTokenizer::SentencePieceTokenizer(Vocabulary vocabulary)
    : Tokenizer(std::move(vocabulary)),
      control_tokens_(this->vocabulary(), /*with_user_defined=*/false),
      byte_of_token_(vocab_size()) {
  byte_ids_.fill(-1);
  for (int id = 0; id < vocab_size(); ++id) {
    const std::string& piece = this->vocabulary().pieces[id];
    const TokenType type = this->vocabulary().types[id];
    if (type == TokenType::kUserDefined) user_defined_.Add(piece, id);
    if (type != TokenType::kUserDefined && type != TokenType::kNormal) continue;
    if (FirstWordBytes(piece) != piece.size()) splits_words_ = false;
  }
}

Result<std::unique_ptr<Tokenizer>> SentencePieceTokenizer::Create(Vocabulary vocabulary) {
  if (vocabulary.scores.size() != vocabulary.pieces.size()) {
    return InvalidArgument(StrCat("tokenizer: the number of scores is ", vocabulary.scores.size(),
                                  ", expected ", vocabulary.pieces.size(), ", one a piece"));
  }
  for (size_t id = 0; id < vocabulary.scores.size(); ++id) {
    if (std::isnan(vocabulary.scores[id])) {
      return InvalidArgument(StrCat("tokenizer: scores[", id, "] is not a number"));
    }
  }
  std::unique_ptr<SentencePieceTokenizer> tokenizer(
      new SentencePieceTokenizer(std::move(vocabulary)));
  COMET_RETURN_IF_ERROR(tokenizer->ReadByteTokens());
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

Status SentencePieceTokenizer::ReadByteTokens() {
  for (int id = 0; id < vocab_size(); ++id) {
    if (vocabulary().types[id] != TokenType::kByte) continue;
    const int byte = ParseByteToken(vocabulary().pieces[id]);
    if (byte < 0) {
      return InvalidArgument(StrCat("tokenizer: pieces[", id, "] is '", vocabulary().pieces[id],
                                    "', expected <0x00> to <0xFF> for a byte token"));
    }
    byte_of_token_[id] = static_cast<uint8_t>(byte);
    if (byte_ids_[byte] < 0) byte_ids_[byte] = id;
  }
  return Status::Ok();
}

Result<std::vector<int>> SentencePieceTokenizer::Encode(std::string_view text,
                                                        const EncodeOptions& options) const {
  std::vector<int> token_ids;
  if (options.add_special && vocabulary().add_bos) token_ids.push_back(vocabulary().bos_id);
  const auto on_text = [&](std::string_view part) {
    EncodePart(part, token_ids);
    return Status::Ok();
  };
  COMET_RETURN_IF_ERROR(control_tokens_.Split(text, options.parse_special, on_text,
                                              [&](int id) { token_ids.push_back(id); }));
  if (options.add_special && vocabulary().add_eos) token_ids.push_back(vocabulary().eos_id);
  return token_ids;
}

// Encodes what stands between two control tokens; the space prefix comes before each such part, as
// in Hugging Face's converted tokenizers.
void SentencePieceTokenizer::EncodePart(std::string_view text, std::vector<int>& token_ids) const {
  const std::string escaped = Escape(text);
  const size_t begin = token_ids.size();
  if (splits_words_) {
    EncodeWords(escaped, token_ids);
  } else {
    EncodeStretch(escaped, token_ids);
  }
  // A run of unknown characters is one unknown token.
  const auto repeats_unknown = [&](int a, int b) { return a == b && a == vocabulary().unknown_id; };
  const auto first = token_ids.begin() + static_cast<std::ptrdiff_t>(begin);
  token_ids.erase(std::unique(first, token_ids.end(), repeats_unknown), token_ids.end());
}

void SentencePieceTokenizer::EncodeWords(std::string_view escaped,
                                         std::vector<int>& token_ids) const {
  StretchMemo memo(token_ids);
  while (!escaped.empty()) {
    const size_t num_bytes = FirstWordBytes(escaped);
    memo.Append(escaped.substr(0, num_bytes),
                [&](std::string_view word) { EncodeStretch(word, token_ids); });
    escaped.remove_prefix(num_bytes);
  }
}

void SentencePieceTokenizer::EncodeStretch(std::string_view escaped,
                                           std::vector<int>& token_ids) const {
  SymbolMerger<Symbol, ScoreRule> merger;
  while (!escaped.empty()) {
    const PieceTrie::Match match = user_defined_.Longest(escaped);
    Symbol symbol{escaped.substr(0, match.num_bytes), match.token_id, true};
    if (match.token_id < 0) {
      const std::string_view character = escaped.substr(0, ReadUtf8Char(escaped).num_bytes);
      symbol = {character, FindToken(character), false};
    }
    merger.Add(symbol);
    escaped.remove_prefix(symbol.text.size());
  }
  merger.Run(ScoreRule{*this}, [&](const Symbol& symbol) { AppendTokens(symbol, token_ids); });
}

// Always valid UTF-8.
std::string SentencePieceTokenizer::Escape(std::string_view text) const {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2);
  if (vocabulary().add_space_prefix) escaped += kEscapedSpace;
  while (!text.empty()) {
    const Utf8Char next = ReadUtf8Char(text);
    const bool is_valid = next.state == Utf8State::kValid;
    const size_t num_bytes = is_valid ? next.num_bytes : 1;
    if (text[0] == ' ') {
      escaped += kEscapedSpace;
    } else {
      escaped += is_valid ? text.substr(0, num_bytes) : kReplacementChar;
    }
    text.remove_prefix(num_bytes);
  }
  return escaped;
}

void SentencePieceTokenizer::AppendTokens(const Symbol& symbol, std::vector<int>& token_ids) const {
  if (symbol.token_id >= 0) {
    const TokenType type = vocabulary().types[symbol.token_id];
    if (type == TokenType::kNormal || type == TokenType::kUserDefined) {
      return token_ids.push_back(symbol.token_id);
    }
  }
  for (const char c : symbol.text) {
    const int byte_id = byte_ids_[static_cast<uint8_t>(c)];
    const int id = byte_id >= 0 ? byte_id : vocabulary().unknown_id;
    if (id >= 0) token_ids.push_back(id);
  }
}

std::string SentencePieceTokenizer::TokenBytes(int token_id, bool with_special) const {
  if (token_id < 0 || token_id >= vocab_size()) return "";
  const std::string& piece = vocabulary().pieces[token_id];
  switch (vocabulary().types[token_id]) {
    case TokenType::kControl:
    case TokenType::kUnknown: return with_special ? piece : "";
    case TokenType::kUnused: return "";
    case TokenType::kByte: return std::string(1, static_cast<char>(byte_of_token_[token_id]));
    case TokenType::kNormal:
    case TokenType::kUserDefined: break;
  }
  std::string bytes;
  for (size_t pos = 0; pos < piece.size();) {
    const bool is_space = piece.compare(pos, kEscapedSpace.size(), kEscapedSpace) == 0;
    bytes.push_back(is_space ? ' ' : piece[pos]);
    pos += is_space ? kEscapedSpace.size() : 1;
  }
  return bytes;
}

}  // namespace comet
