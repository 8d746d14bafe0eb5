#pragma once

#include <string>
#include <vector>

namespace comet {

enum class TokenizerKind {
  kByteLevelBpe,   // GPT-2 family: SmolLM2, LLaMA-3, Qwen2. Merges ranked by position.
  kSentencePiece,  // LLaMA-1/2, Mistral: pieces with scores or ranked merges, byte fallback.
};

// As GGUF and SentencePiece number them.
enum class TokenType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// Where SentencePiece's space goes, if add_space_prefix.
enum class SpacePrefix {
  kEachPart = 0,             // Before the text and after each token written out in it.
  kEachPartUnlessSpace = 1,  // The same, but not where a space stands already.
  kStartUnlessSpace = 2,     // Before the text only, and not where it begins with a space.
};

// How a token written out in a text is found, where that is more than its letters. Hugging Face's
// lstrip, rstrip, single_word and normalized.
struct AddedTokenRule {
  int token_id = -1;
  bool strips_left = false;    // White space before it belongs to it.
  bool strips_right = false;   // White space after it belongs to it.
  bool is_whole_word = false;  // Not inside of a word.
  bool is_normalized = false;  // Searched for after the text's normalisation; user-defined only.

  bool operator==(const AddedTokenRule&) const = default;
};

// What a tokenizer is made from, whatever file it came in. Token id = index.
struct Vocabulary {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  std::string pre_tokenizer;  // GGUF's tokenizer.ggml.pre: "smollm", "llama-bpe", "qwen2", ...
  std::vector<std::string> pieces;  // As stored: GPT-2 byte symbols, or U+2581 for spaces.
  std::vector<float> scores;        // kSentencePiece without merges; empty otherwise.
  std::vector<TokenType> types;     // One a piece.
  // "left right", best first. Always for kByteLevelBpe; for kSentencePiece where the file was made
  // by Hugging Face's tokenizers, whose ranks need not agree with SentencePiece's scores.
  std::vector<std::string> merges;
  std::vector<AddedTokenRule> added_token_rules;  // At most one a token.
  int bos_id = -1;                                // -1: the vocabulary has none.
  int eos_id = -1;
  int unknown_id = -1;
  int padding_id = -1;
  bool add_bos = false;  // Encode() prepends BOS when asked for special tokens.
  bool add_eos = false;
  bool add_space_prefix = false;  // kSentencePiece: a space before the text.
  SpacePrefix space_prefix = SpacePrefix::kEachPart;
  bool ignores_merges = false;  // kByteLevelBpe: a stretch that is a piece is one token.
  bool normalizes_nfc = false;  // kByteLevelBpe: the text is brought to NFC first.

  bool operator==(const Vocabulary&) const = default;
};

}  // namespace comet
