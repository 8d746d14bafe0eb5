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

// Pairs that join into at most this many bytes are looked up by their ids, longer ones by their
// text: looking for the cuts of a piece takes time by the square of its size. LLaMA's longest
// has 48.
constexpr size_t kCutBytesMax = 64;

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

  bool Find(const Symbol& left, const Symbol& right, float& priority, int& joined_id) const {
    if (left.is_frozen || right.is_frozen) return false;
    const Symbol joined = Join(left, right, -1);
    const bool is_short = joined.text.size() <= kCutBytesMax;
    if (is_short && left.token_id >= 0 && right.token_id >= 0) {
      joined_id = tokenizer.merges_.Find(left.token_id, right.token_id).token_id;
      if (joined_id < 0) return false;
    } else {
      joined_id = tokenizer.FindToken(joined.text);
      if (joined_id < 0) return false;
      if (tokenizer.vocabulary().types[joined_id] != TokenType::kNormal) return false;
    }
    priority = -tokenizer.vocabulary().scores[joined_id];
    return true;
  }
  // Symbols that are neighbours lie side by side in the escaped text.
  Symbol Join(const Symbol& left, const Symbol& right, int joined_id) const {
    return {{left.text.data(), left.text.size() + right.text.size()}, joined_id, false};
  }

  const SentencePieceTokenizer& tokenizer;
};

SentencePieceTokenizer::SentencePieceTokenizer(Vocabulary vocabulary)
    : Tokenizer(std::move(vocabulary)),
      special_tokens_(this->vocabulary(),
                      joins_by_rank() ? SpecialTokens::Stage::kRaw : SpecialTokens::Stage::kControl,
                      [](std::string_view piece) { return std::string(piece); }),
      // Normalisers that prepend a space do so to the token's own text as well.
      normalized_tokens_(this->vocabulary(), SpecialTokens::Stage::kNormalized,
                         [this](std::string_view piece) { return Escape(piece, false); }),
      merges_(this->vocabulary().merges.size()),
      byte_of_token_(vocab_size()) {
  byte_ids_.fill(-1);
  for (const AddedTokenRule& rule : this->vocabulary().added_token_rules) {
    if (rule.is_normalized && this->vocabulary().add_space_prefix) {
      takes_prefix_.insert(rule.token_id);
    }
  }
  for (int id = 0; id < vocab_size(); ++id) {
    const std::string& piece = this->vocabulary().pieces[id];
    const TokenType type = this->vocabulary().types[id];
    const bool is_user_defined = type == TokenType::kUserDefined && !joins_by_rank();
    if (is_user_defined) user_defined_.Add(piece, id);
    if (!is_user_defined && type != TokenType::kNormal) continue;
    if (FirstWordBytes(piece) != piece.size()) splits_words_ = false;
  }
}

Result<std::unique_ptr<Tokenizer>> SentencePieceTokenizer::Create(Vocabulary vocabulary) {
  const bool has_scores = vocabulary.merges.empty();
  if (vocabulary.scores.size() != (has_scores ? vocabulary.pieces.size() : 0)) {
    return InvalidArgument(StrCat("tokenizer: the number of scores is ", vocabulary.scores.size(),
                                  ", expected one for each of ", vocabulary.pieces.size(),
                                  " pieces, or none beside merges"));
  }
  for (size_t id = 0; id < vocabulary.scores.size(); ++id) {
    if (std::isnan(vocabulary.scores[id])) {
      return InvalidArgument(StrCat("tokenizer: scores[", id, "] is not a number"));
    }
  }
  std::unique_ptr<SentencePieceTokenizer> tokenizer(
      new SentencePieceTokenizer(std::move(vocabulary)));
  COMET_RETURN_IF_ERROR(tokenizer->ReadByteTokens());
  if (tokenizer->joins_by_rank()) {
    COMET_RETURN_IF_ERROR(AddMerges(*tokenizer, tokenizer->merges_));
  } else {
    tokenizer->AddCuts();
  }
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

// Half again as fast on English prose as looking up each pair's text.
void SentencePieceTokenizer::AddCuts() {
  struct Cut {
    int left;
    int right;
    int joined;
  };
  std::vector<Cut> cuts;
  for (int id = 0; id < vocab_size(); ++id) {
    const std::string_view piece = vocabulary().pieces[id];
    const bool is_first = FindToken(piece) == id;
    const bool is_normal = vocabulary().types[id] == TokenType::kNormal;
    if (!is_first || !is_normal || piece.size() > kCutBytesMax) continue;
    for (size_t i = 1; i < piece.size(); ++i) {
      const int left = FindToken(piece.substr(0, i));
      const int right = left < 0 ? -1 : FindToken(piece.substr(i));
      if (right >= 0) cuts.push_back({left, right, id});
    }
  }
  merges_ = MergeTable(cuts.size());
  for (const Cut& cut : cuts) merges_.Add(cut.left, cut.right, {0, cut.joined});
}

Result<std::vector<int>> SentencePieceTokenizer::Encode(std::string_view text,
                                                        const EncodeOptions& options) const {
  std::vector<int> token_ids;
  if (options.add_special && vocabulary().add_bos) token_ids.push_back(vocabulary().bos_id);
  const auto on_text = [&](std::string_view part) {
    return EncodeText(part, part.data() == text.data(), options.parse_special, token_ids);
  };
  COMET_RETURN_IF_ERROR(special_tokens_.Split(text, options.parse_special, on_text,
                                              [&](int id) { token_ids.push_back(id); }));
  if (options.add_special && vocabulary().add_eos) token_ids.push_back(vocabulary().eos_id);
  return token_ids;
}

// Encodes what stands between two tokens written out in the text.
Status SentencePieceTokenizer::EncodeText(std::string_view text, bool is_start, bool parse_special,
                                          std::vector<int>& token_ids) const {
  const std::string escaped = Escape(text, is_start);
  const auto on_part = [&](std::string_view part) {
    EncodePart(part, token_ids);
    return Status::Ok();
  };
  return normalized_tokens_.Split(escaped, parse_special, on_part,
                                  [&](int id) { token_ids.push_back(id); });
}

void SentencePieceTokenizer::EncodePart(std::string_view escaped,
                                        std::vector<int>& token_ids) const {
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
  if (joins_by_rank()) return EncodeStretchByRank(escaped, token_ids);
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

void SentencePieceTokenizer::EncodeStretchByRank(std::string_view escaped,
                                                 std::vector<int>& token_ids) const {
  SymbolMerger<int, RankRule> merger;
  std::vector<int> character_ids;
  while (!escaped.empty()) {
    const std::string_view character = escaped.substr(0, ReadUtf8Char(escaped).num_bytes);
    AppendTokens({character, FindToken(character), false}, character_ids);
    escaped.remove_prefix(character.size());
  }
  for (const int id : character_ids) merger.Add(id);
  merger.Run(RankRule{merges_}, [&](int id) { token_ids.push_back(id); });
}

// Always valid UTF-8. `is_start`: the text is the first of its call.
std::string SentencePieceTokenizer::Escape(std::string_view text, bool is_start) const {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2);
  if (vocabulary().add_space_prefix) AppendPrefix(text, is_start, escaped);
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

void SentencePieceTokenizer::AppendPrefix(std::string_view text, bool is_start,
                                          std::string& escaped) const {
  const bool has_space = text.starts_with(' ') || text.starts_with(kEscapedSpace);
  switch (vocabulary().space_prefix) {
    case SpacePrefix::kEachPart: break;
    case SpacePrefix::kEachPartUnlessSpace:
      if (has_space) return;
      break;
    case SpacePrefix::kStartUnlessSpace:
      if (has_space || !is_start) return;
      break;
  }
  escaped += kEscapedSpace;
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
  std::string bytes(takes_prefix_.contains(token_id) ? 1 : 0, ' ');
  for (size_t pos = 0; pos < piece.size();) {
    const bool is_space = piece.compare(pos, kEscapedSpace.size(), kEscapedSpace) == 0;
    bytes.push_back(is_space ? ' ' : piece[pos]);
    pos += is_space ? kEscapedSpace.size() : 1;
  }
  return bytes;
}

}  // namespace comet
