#pragma once

#include <string_view>

#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// The bytes of a SentencePiece tokenizer.model of type BPE (LLaMA-2, Mistral): pieces, scores,
// types and special ids. BOS is prepended, as the models that come with such a file were trained.
// `where` begins the messages. Errors: kDataLoss (not such a file, an id or type out of range, a
// score that is not finite); kUnimplemented for another model type or a normaliser that changes
// text, by name.
Result<Vocabulary> ParseSentencePieceModel(std::string_view where, std::string_view bytes);

}  // namespace comet
