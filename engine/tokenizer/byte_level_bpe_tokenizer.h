#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/merge_table.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/special_tokens.h"
#include "engine/tokenizer/tokenizer.h"

namespace comet {

// GPT-2's scheme: text is cut by a regular expression, each stretch becomes one symbol a byte, and
// neighbours join by the rank of their merge. A byte whose symbol has no token is dropped and its
// neighbours become adjacent, as Hugging Face's implementation does without an unknown token.
// Invalid UTF-8 is encoded byte by byte, so it survives a round trip. Where the vocabulary asks for
// it, the text is brought to NFC first, after the tokens written out in it are found. Immutable.
class ByteLevelBpeTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create().
  static Result<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary);

  Result<std::vector<int>> Encode(std::string_view text,
                                  const EncodeOptions& options) const override;
  std::string TokenBytes(int token_id, bool with_special) const override;

 private:
  class StretchEncoder;

  ByteLevelBpeTokenizer(Vocabulary vocabulary, std::unique_ptr<PreTokenizer> pre_tokenizer);

  std::string Normalize(std::string_view text) const;

  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  SpecialTokens special_tokens_;
  SpecialTokens normalized_tokens_;
  MergeTable merges_;
  std::array<int, 256> byte_ids_;  // -1: the byte has no token.
};

}  // namespace comet
