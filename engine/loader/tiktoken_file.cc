#include "engine/loader/tiktoken_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "engine/tokenizer/byte_symbols.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr size_t kRanksMax = 1 << 22;
// LLaMA-3's longest has 128. Merges are looked for at each byte, so work grows by the square.
constexpr size_t kTokenBytesMax = 256;
// Two in LLaMA-3. Tokens made to be cut in many ways would take memory out of all proportion.
constexpr size_t kMergesPerTokenMax = 8;
constexpr int kNumSpecialTokens = 256;

// Source: tokenizer.py of LLaMA-3.1; names in the order of their ids, the rest is reserved.
constexpr std::array<std::string_view, 11> kSpecialTokens = {
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
};
constexpr int kFirstReservedAfter = 3;
constexpr int kBeginOfText = 0;
constexpr int kEndOfText = 1;
constexpr int kPadding = 4;

int Base64Digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

// Nothing for text that is not base64 with its padding.
std::optional<std::string> DecodeBase64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  size_t num_padding = 0;
  while (num_padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++num_padding;
  }
  std::string bytes;
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    const int digit = Base64Digit(c);
    if (digit < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<uint32_t>(digit)) & 0xFFFFFF;
    num_bits += 6;
    if (num_bits >= 8) {
      num_bits -= 8;
      bytes.push_back(static_cast<char>(bits >> num_bits & 0xFF));
    }
  }
  return bytes;
}

std::string SymbolsOf(std::string_view bytes) {
  std::string symbols;
  for (const char c : bytes) symbols += ByteSymbol(static_cast<uint8_t>(c));
  return symbols;
}

using Ranks = std::unordered_map<std::string_view, int>;

// "IQ== 0"
Status ParseLine(const std::string& where, std::string_view line,
                 std::vector<std::string>& tokens) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) {
    return DataLoss(StrCat(where, ": expected a token in base64, a space and its rank"));
  }
  std::optional<std::string> token = DecodeBase64(line.substr(0, space));
  if (!token.has_value() || token->size() > kTokenBytesMax) {
    return DataLoss(
        StrCat(where, ": expected a token of 1 to ", kTokenBytesMax, " bytes in base64"));
  }
  const std::string_view digits = line.substr(space + 1);
  size_t rank = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
  if (error != std::errc() || end != digits.data() + digits.size() || rank != tokens.size()) {
    return DataLoss(StrCat(where, ": rank is \"", digits.substr(0, 20), "\", expected ",
                           tokens.size(), ", one more than the line before"));
  }
  if (rank >= kRanksMax) return DataLoss(StrCat(where, ": expected at most ", kRanksMax, " ranks"));
  tokens.push_back(std::move(*token));
  return Status::Ok();
}

// Every cut of the token into two of lower rank, by the rank of its parts.
void AddMerges(std::string_view token, const Ranks& ranks, std::vector<std::string>& merges) {
  std::vector<std::tuple<int, int, size_t>> cuts;
  for (size_t i = 1; i < token.size(); ++i) {
    const auto left = ranks.find(token.substr(0, i));
    if (left == ranks.end()) continue;
    const auto right = ranks.find(token.substr(i));
    if (right != ranks.end()) cuts.emplace_back(left->second, right->second, i);
  }
  std::ranges::sort(cuts);
  for (const auto& [left, right, i] : cuts) {
    merges.push_back(SymbolsOf(token.substr(0, i)) + " " + SymbolsOf(token.substr(i)));
  }
}

void AddSpecialTokens(Vocabulary& vocabulary) {
  const int first_id = static_cast<int>(vocabulary.pieces.size());
  for (int i = 0; i < kNumSpecialTokens; ++i) {
    const int num_named = static_cast<int>(kSpecialTokens.size());
    vocabulary.pieces.push_back(i < num_named ? std::string(kSpecialTokens[static_cast<size_t>(i)])
                                              : StrCat("<|reserved_special_token_",
                                                       i - num_named + kFirstReservedAfter, "|>"));
  }
  vocabulary.types.resize(vocabulary.pieces.size(), TokenType::kControl);
  vocabulary.bos_id = first_id + kBeginOfText;
  vocabulary.eos_id = first_id + kEndOfText;
  vocabulary.padding_id = first_id + kPadding;
  vocabulary.add_bos = true;
}

}  // namespace

Result<Vocabulary> ParseTiktoken(std::string_view where, std::string_view text) {
  std::vector<std::string> tokens;
  for (size_t line_idx = 1; !text.empty(); ++line_idx) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    COMET_RETURN_IF_ERROR(ParseLine(StrCat(where, ": line ", line_idx), line, tokens));
  }
  if (tokens.empty()) return DataLoss(StrCat(where, ": has no token"));

  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kByteLevelBpe;
  vocabulary.pre_tokenizer = "llama-bpe";
  vocabulary.ignores_merges = true;
  Ranks ranks;
  ranks.reserve(tokens.size());
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    const auto [it, is_new] = ranks.emplace(tokens[rank], static_cast<int>(rank));
    if (!is_new) {
      return DataLoss(StrCat(where, ": rank ", rank, " has the token of rank ", it->second));
    }
    vocabulary.pieces.push_back(SymbolsOf(tokens[rank]));
    AddMerges(tokens[rank], ranks, vocabulary.merges);
    if (vocabulary.merges.size() > kMergesPerTokenMax * tokens.size()) {
      return DataLoss(StrCat(where, ": has more than ", kMergesPerTokenMax, " merges a token"));
    }
  }
  vocabulary.types.assign(tokens.size(), TokenType::kNormal);
  AddSpecialTokens(vocabulary);
  return vocabulary;
}

bool LooksLikeTiktoken(std::string_view bytes) {
  // A SentencePiece model begins with the tag of its first piece, which is a line feed.
  return !bytes.empty() && Base64Digit(bytes[0]) >= 0;
}

}  // namespace comet
