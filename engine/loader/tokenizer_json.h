#pragma once

#include <string_view>

#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// The text of a Hugging Face tokenizer.json: byte-level BPE (LLaMA-3, SmolLM2, Qwen2) or BPE over
// SentencePiece's pieces (LLaMA-2, Mistral). `where` begins the messages.
//
// truncation, padding, trim_offsets and a post-processor's `pair` change nothing here and are
// accepted. Special tokens are searched for in the text as given even where they say `normalized`,
// as transformers does. Ids without a token are kUnused.
//
// Errors: kDataLoss (not JSON, a wrong type, an id twice or out of range, an ambiguous merge);
// kUnimplemented for a component, option or field it does not know, by its path.
Result<Vocabulary> ParseTokenizerJson(std::string_view where, std::string_view text);

}  // namespace comet
