#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

struct EncodeOptions {
  bool add_special = true;  // Prepend BOS and append EOS where the vocabulary asks for them.
  bool parse_special =
      false;  // Read control tokens written out in the text ("<|im_end|>") as tokens.
};

// Text to token ids and back. Immutable, so thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Errors: kInvalidArgument when the vocabulary contradicts itself, naming the entry;
  // kUnimplemented for a pre-tokenizer it does not know, naming it.
  static Result<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary);

  // Any bytes are accepted; invalid UTF-8 is encoded as each format's own implementation does.
  // Errors: kResourceExhausted when a match limit of the pre-tokenizer is hit.
  virtual Result<std::vector<int>> Encode(std::string_view text,
                                          const EncodeOptions& options) const = 0;

  // The bytes a token stands for; may be part of a UTF-8 character. Control tokens give their name
  // when `with_special`, else nothing. An id outside the vocabulary gives nothing.
  virtual std::string TokenBytes(int token_id, bool with_special) const = 0;

  // All tokens at once; SentencePiece's leading space prefix is removed.
  std::string Decode(const std::vector<int>& token_ids, bool with_special) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  int vocab_size() const { return static_cast<int>(vocabulary_.pieces.size()); }
  // SentencePiece's space before the text, which Decode() removes.
  bool has_space_prefix() const {
    return vocabulary_.kind == TokenizerKind::kSentencePiece && vocabulary_.add_space_prefix;
  }
  // -1 when there is no such token; the lowest id when pieces are equal.
  int FindToken(std::string_view piece) const;
  // EOS, and the end-of-turn tokens known by name ("<|eot_id|>", "<|im_end|>", "<|end|>", ...).
  bool IsEndOfGeneration(int token_id) const;
  const std::vector<int>& end_of_generation_ids() const { return end_of_generation_ids_; }

 protected:
  explicit Tokenizer(Vocabulary vocabulary);

 private:
  Vocabulary vocabulary_;
  std::unordered_map<std::string_view, int> ids_;  // Keys point into vocabulary_.pieces.
  std::vector<int> end_of_generation_ids_;
};

}  // namespace comet
