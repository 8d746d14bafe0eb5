#include "engine/tokenizer/byte_level_bpe_tokenizer.h"

#include <utility>

#include "engine/tokenizer/byte_symbols.h"
#include "engine/tokenizer/stretch_memo.h"
#include "engine/tokenizer/symbol_merger.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

struct RankRule {
  using Priority = int;

  bool Find(int left_id, int right_id, int& rank, int& joined_id) const {
    const Merge merge = merges.Find(left_id, right_id);
    rank = merge.rank;
    joined_id = merge.token_id;
    return merge.rank >= 0;
  }

  const MergeTable& merges;
};

}  // namespace

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
    if (tokenizer_.pre_tokenizer_->ignores_merges()) {
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
      special_tokens_(this->vocabulary(), /*with_user_defined=*/true),
      merges_(this->vocabulary().merges.size()) {
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = FindToken(ByteSymbol(static_cast<uint8_t>(byte)));
  }
}

Result<std::unique_ptr<Tokenizer>> ByteLevelBpeTokenizer::Create(Vocabulary vocabulary) {
  COMET_ASSIGN_OR_RETURN(auto pre_tokenizer, PreTokenizer::Create(vocabulary.pre_tokenizer));
  std::unique_ptr<ByteLevelBpeTokenizer> tokenizer(
      new ByteLevelBpeTokenizer(std::move(vocabulary), std::move(pre_tokenizer)));
  COMET_RETURN_IF_ERROR(tokenizer->AddMerges());
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

Status ByteLevelBpeTokenizer::AddMerges() {
  const std::vector<std::string>& merges = vocabulary().merges;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos) {
      return InvalidArgument(
          StrCat("tokenizer: merges[", rank, "] is '", merge, "', expected 'left right'"));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    const int left_id = FindToken(left);
    const int right_id = FindToken(right);
    const int joined_id = FindToken(StrCat(left, right));
    if (left_id < 0 || right_id < 0 || joined_id < 0) {
      return InvalidArgument(StrCat("tokenizer: merges[", rank, "] is '", merge,
                                    "', expected both sides and their sum in the vocabulary"));
    }
    merges_.Add(left_id, right_id, {static_cast<int>(rank), joined_id});
  }
  return Status::Ok();
}

Result<std::vector<int>> ByteLevelBpeTokenizer::Encode(std::string_view text,
                                                       const EncodeOptions& options) const {
  std::vector<int> token_ids;
  if (options.add_special && vocabulary().add_bos) token_ids.push_back(vocabulary().bos_id);
  StretchEncoder encoder(*this, token_ids);
  const auto on_text = [&](std::string_view part) {
    return pre_tokenizer_->Split(part, [&](std::string_view stretch) { encoder.Encode(stretch); });
  };
  COMET_RETURN_IF_ERROR(special_tokens_.Split(text, options.parse_special, on_text,
                                              [&](int id) { token_ids.push_back(id); }));
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
