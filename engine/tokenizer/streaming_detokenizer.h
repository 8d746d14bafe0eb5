#pragma once

#include <string>

#include "engine/tokenizer/tokenizer.h"

namespace comet {

// Turns one sequence's tokens into text as they come, never splitting a UTF-8 character: bytes of
// an unfinished character wait for the next token; bytes that cannot become one turn into U+FFFD.
// The concatenation of what Push() and Finish() return is valid UTF-8 and equals Decode() of the
// same tokens with invalid bytes replaced. Confined to one thread; the tokenizer outlives it.
class StreamingDetokenizer {
 public:
  // `continues_text`: the tokens follow others whose text is shown, so a leading space is text and
  // stays.
  StreamingDetokenizer(const Tokenizer& tokenizer, bool with_special, bool continues_text = false);

  std::string Push(int token_id);
  std::string Finish();

 private:
  std::string TakeWholeCharacters();

  const Tokenizer& tokenizer_;
  bool with_special_;
  bool is_first_;  // SentencePiece's space prefix may still come.
  std::string pending_;
};

}  // namespace comet
