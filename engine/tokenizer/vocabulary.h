#pragma once

#include <string>
#include <vector>

namespace comet {

enum class TokenizerKind {
  kByteLevelBpe,   // GPT-2 family: SmolLM2, LLaMA-3, Qwen2. Merges ranked by position.
  kSentencePiece,  // LLaMA-1/2, Mistral: pieces with scores, byte fallback.
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

// What a tokenizer is made from, whatever file it came in. Token id = index.
struct Vocabulary {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  std::string pre_tokenizer;  // GGUF's tokenizer.ggml.pre: "smollm", "llama-bpe", "qwen2", ...
  std::vector<std::string> pieces;  // As stored: GPT-2 byte symbols, or U+2581 for spaces.
  std::vector<float> scores;        // kSentencePiece; empty otherwise.
  std::vector<TokenType> types;     // One a piece.
  std::vector<std::string> merges;  // kByteLevelBpe: "left right", best first.
  int bos_id = -1;                  // -1: the vocabulary has none.
  int eos_id = -1;
  int unknown_id = -1;
  int padding_id = -1;
  bool add_bos = false;  // Encode() prepends BOS when asked for special tokens.
  bool add_eos = false;
  bool add_space_prefix = false;  // kSentencePiece: a space before the text.
};

}  // namespace comet
