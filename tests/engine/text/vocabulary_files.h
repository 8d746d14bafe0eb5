#pragma once

#include <string>

#include "engine/tokenizer/vocabulary.h"

namespace comet {

// Small readers that turn published tokenizer files into vocabularies for tests. They trust their
// files and abort on a surprise.

// A byte-level `tokenizer.json`: vocabulary, merges, special tokens.
Vocabulary ReadTokenizerJson(const std::string& path, const std::string& pre_tokenizer);

// A SentencePiece `tokenizer.model`: pieces, scores, types.
Vocabulary ReadSentencePieceModel(const std::string& path);

// LLaMA-3's tiktoken text: a line a token, base64 and rank. The merges are found by encoding each
// token with the tokens before it.
Vocabulary ReadTiktoken(const std::string& path, const std::string& pre_tokenizer);

}  // namespace comet
