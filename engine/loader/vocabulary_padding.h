#pragma once

#include <string_view>

#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// Embedding tables are rounded up for the hardware (Qwen2.5-7B: 399 rows too many), so this many
// ids may be without a token; more means that vocabulary and weights are not of one model.
inline constexpr int kUnusedRowsMax = 1024;

// Gives each nameless piece of type kUnused a name of its own.
void NameUnusedPieces(Vocabulary& vocabulary);

// Brings the vocabulary to one piece for each of `num_rows` rows of the embedding, by pieces of
// type kUnused. `where` names its file. Errors: kDataLoss when it is larger, or smaller by more
// than kUnusedRowsMax.
Status FitVocabulary(std::string_view where, int num_rows, Vocabulary& vocabulary);

}  // namespace comet
