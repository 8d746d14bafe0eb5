#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "engine/tokenizer/merge_table.h"
#include "engine/tokenizer/piece_trie.h"
#include "engine/tokenizer/special_tokens.h"
#include "engine/tokenizer/tokenizer.h"

namespace comet {

// SentencePiece's BPE: spaces are written U+2581, characters join while their sum is a piece, best
// score first, and a character that is no piece falls back to its bytes ("<0xE2>"), or to the
// unknown token where the vocabulary has no bytes. Each byte of invalid UTF-8 counts as U+FFFD.
// Text normalisation other than the space prefix is the identity, as in LLaMA and Mistral.
// A vocabulary with merges is one of Hugging Face's: pieces join by the rank of their merge
// instead, and user-defined tokens are cut out of the text before it is escaped. Immutable.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create().
  static Result<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary);

  Result<std::vector<int>> Encode(std::string_view text,
                                  const EncodeOptions& options) const override;
  std::string TokenBytes(int token_id, bool with_special) const override;

 private:
  struct Symbol;
  struct ScoreRule;

  explicit SentencePieceTokenizer(Vocabulary vocabulary);

  bool joins_by_rank() const { return !vocabulary().merges.empty(); }
  Status ReadByteTokens();
  void AddCuts();
  Status EncodeText(std::string_view text, bool is_start, bool parse_special,
                    std::vector<int>& token_ids) const;
  void EncodePart(std::string_view escaped, std::vector<int>& token_ids) const;
  void EncodeWords(std::string_view escaped, std::vector<int>& token_ids) const;
  void EncodeStretch(std::string_view escaped, std::vector<int>& token_ids) const;
  void EncodeStretchByRank(std::string_view escaped, std::vector<int>& token_ids) const;
  std::string Escape(std::string_view text, bool is_start) const;
  void AppendPrefix(std::string_view text, bool is_start, std::string& escaped) const;
  void AppendTokens(const Symbol& symbol, std::vector<int>& token_ids) const;

  SpecialTokens special_tokens_;
  SpecialTokens normalized_tokens_;
  PieceTrie user_defined_;                // Found while merging; empty when joining by rank.
  std::unordered_set<int> takes_prefix_;  // Found in the normalised text, with its space prefix.
  MergeTable merges_;  // By score: every cut of a short piece in two pieces, without ranks.
  // No piece continues past the start of a word, so words can be encoded one by one: 10 times as
  // fast on English prose, because most words have been seen.
  bool splits_words_ = true;
  std::array<int, 256> byte_ids_;       // -1: the vocabulary has no such byte.
  std::vector<uint8_t> byte_of_token_;  // Meaningful for kByte only.
};

}  // namespace comet
