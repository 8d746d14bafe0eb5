#pragma once

#include <string_view>

#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// The text of LLaMA-3's tokenizer.model: a line a token, its bytes in base64 and its rank, which is
// its id. The 256 special tokens follow the last rank; they have LLaMA-3.1's names, which cover
// LLaMA-3's uses. The merges are every way to cut a token in two of lower rank, as in Hugging
// Face's conversion. `where` begins the messages. Errors: kDataLoss naming the line.
Result<Vocabulary> ParseTiktoken(std::string_view where, std::string_view text);

// Whether a tokenizer.model holds such text rather than a SentencePiece model.
bool LooksLikeTiktoken(std::string_view bytes);

}  // namespace comet
