#include "engine/tokenizer/byte_level_bpe_tokenizer.h"

#include <deque>
#include <utility>

#include "engine/tokenizer/byte_symbols.h"
#include "engine/tokenizer/stretch_memo.h"
#include "engine/tokenizer/symbol_merger.h"
#include "engine/tokenizer/unicode_nfc.h"

namespace comet {
// Encodes the stretches of one text.
class ByteLevelBpeTokenizer::StretchEncoder {
 public:
  StretchEncoder(const ByteLevelBpeTokenizer& tokenizer, std::vector<int>& token_ids)
      : tokenizer_(tokenizer), token_ids_(token_ids), memo_(token_ids) {}

  void Encode(std::string_view stretch) {
    memo_.Append(stretch, [&](std::string_view unseen) { Merge(unseen); });
  }

 private:
  void Merge(std::string_view stretch) {
    if (tokenizer_.vocabulary().ignores_merges) {
      const int id = tokenizer_.FindToken(SymbolsOf(stretch));
      const bool is_text = id >= 0 && tokenizer_.vocabulary().types[id] == TokenType::kNormal;
      if (is_text) return token_ids_.push_back(id);
    }
    for (const char c : stretch) {
      const int id = tokenizer_.byte_ids_[static_cast<uint8_t>(c)];
      if (id >= 0) merger_.Add(id);
    }
    merger_.Run(RankRule{tokenizer_.merges_}, [&](int id) { token_ids_.push_back(id); });
  }

  static std::string SymbolsOf(std::string_view bytes) {
    std::string symbols;
    for (const char c : bytes) symbols += ByteSymbol(static_cast<uint8_t>(c));
    return symbols;
  }

  const ByteLevelBpeTokenizer& tokenizer_;
  std::vector<int>& token_ids_;
  SymbolMerger<int, RankRule> merger_;
  StretchMemo memo_;
};

ByteLevelBpeTokenizer::ByteLevelBpeTokenizer(Vocabulary vocabulary,
                                             std::unique_ptr<PreTokenizer> pre_tokenizer)
    : Tokenizer(std::move(vocabulary)),
      pre_tokenizer_(std::move(pre_tokenizer)),
      special_tokens_(this->vocabulary(), SpecialTokens::Stage::kRaw,
                      [](std::string_view piece) { return std::string(piece); }),
      normalized_tokens_(this->vocabulary(), SpecialTokens::Stage::kNormalized,
                         [this](std::string_view piece) { return Normalize(piece); }),
      merges_(this->vocabulary().merges.size()) {
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = FindToken(ByteSymbol(static_cast<uint8_t>(byte)));
  }
}

Result<std::unique_ptr<Tokenizer>> ByteLevelBpeTokenizer::Create(Vocabulary vocabulary) {
  COMET_ASSIGN_OR_RETURN(auto pre_tokenizer, PreTokenizer::Create(vocabulary.pre_tokenizer));
  std::unique_ptr<ByteLevelBpeTokenizer> tokenizer(
      new ByteLevelBpeTokenizer(std::move(vocabulary), std::move(pre_tokenizer)));
  COMET_RETURN_IF_ERROR(AddMerges(*tokenizer, tokenizer->merges_));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

std::string ByteLevelBpeTokenizer::Normalize(std::string_view text) const {
  return vocabulary().normalizes_nfc ? NormalizeNfc(text) : std::string(text);
}

Result<std::vector<int>> ByteLevelBpeTokenizer::Encode(std::string_view text,
                                                       const EncodeOptions& options) const {
  std::vector<int> token_ids;
  if (options.add_special && vocabulary().add_bos) token_ids.push_back(vocabulary().bos_id);
  // The memo points into the texts it saw, so normalised ones are kept.
  std::deque<std::string> normalized;
  StretchEncoder encoder(*this, token_ids);
  const auto on_token = [&](int id) { token_ids.push_back(id); };
  const auto on_stretch = [&](std::string_view stretch) { encoder.Encode(stretch); };
  const auto on_plain = [&](std::string_view part) {
    return pre_tokenizer_->Split(part, on_stretch);
  };
  const auto on_text = [&](std::string_view part) {
    if (vocabulary().normalizes_nfc) part = normalized.emplace_back(NormalizeNfc(part));
    return normalized_tokens_.Split(part, options.parse_special, on_plain, on_token);
  };
  COMET_RETURN_IF_ERROR(special_tokens_.Split(text, options.parse_special, on_text, on_token));
  if (options.add_special && vocabulary().add_eos) token_ids.push_back(vocabulary().eos_id);
  return token_ids;
}

std::string ByteLevelBpeTokenizer::TokenBytes(int token_id, bool with_special) const {
  if (token_id < 0 || token_id >= vocab_size()) return "";
  const std::string& piece = vocabulary().pieces[token_id];
  switch (vocabulary().types[token_id]) {
    case TokenType::kControl:
    case TokenType::kUnknown: return with_special ? piece : "";
    case TokenType::kUnused: return "";
    case TokenType::kUserDefined: return piece;
    case TokenType::kNormal:
    case TokenType::kByte: return BytesOfSymbols(piece).value_or(piece);
  }
  return "";
}

}  // namespace comet
