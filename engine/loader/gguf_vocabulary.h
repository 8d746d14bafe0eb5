#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/loader/gguf_file.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// The vocabulary of a GGUF file's tokenizer.ggml.* keys. Keys that are absent have llama.cpp's
// defaults: SentencePiece ("llama") has BOS 1, EOS 2, unknown 0, prepends BOS and a space;
// byte-level BPE ("gpt2") has no special ids and prepends BOS only for the pre-tokenizers of
// LLaMA-3 and Tekken. Errors: kDataLoss (an id outside the vocabulary, arrays of different lengths,
// an unknown token type); kUnimplemented naming another tokenizer model.
Result<Vocabulary> ReadVocabulary(const GgufFile& file);

// Ids of the end-of-sequence and end-of-turn tokens that the file names, without repeats.
Result<std::vector<int>> ReadEosIds(const GgufFile& file);

// A GGUF file of those keys alone, without tensors; ReadVocabulary() of it gives `vocabulary` back.
std::string VocabularyGguf(const Vocabulary& vocabulary);

}  // namespace comet
