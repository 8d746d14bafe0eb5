#pragma once

#include "engine/tokenizer/vocabulary.h"

namespace comet {

// A vocabulary for models of random weights: <unk>, <s>, </s> (the end), then 256 pairs of letters.
inline constexpr int kEosId = 2;
inline constexpr int kFirstPairId = 3;
inline constexpr int kLetterPairVocab = kFirstPairId + 256;

inline Vocabulary LetterPairVocabulary() {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::kSentencePiece;
  vocabulary.pieces = {"<unk>", "<s>", "</s>"};
  vocabulary.types = {TokenType::kUnknown, TokenType::kControl, TokenType::kControl};
  for (int i = 0; i < 256; ++i) {
    vocabulary.pieces.push_back({static_cast<char>('a' + i / 16), static_cast<char>('a' + i % 16)});
    vocabulary.types.push_back(TokenType::kNormal);
  }
  vocabulary.scores.assign(vocabulary.pieces.size(), 0.0f);
  vocabulary.unknown_id = 0;
  vocabulary.bos_id = 1;
  vocabulary.eos_id = kEosId;
  return vocabulary;
}

}  // namespace comet
