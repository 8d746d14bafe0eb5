#include "engine/tokenizer/streaming_detokenizer.h"

#include "engine/tokenizer/utf8.h"

namespace comet {

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer, bool with_special,
                                           bool continues_text)
    : tokenizer_(tokenizer),
      with_special_(with_special),
      is_first_(!continues_text && tokenizer.has_space_prefix()) {}

std::string StreamingDetokenizer::Push(int token_id) {
  pending_ += tokenizer_.TokenBytes(token_id, with_special_);
  if (is_first_ && !pending_.empty()) {
    if (pending_.front() == ' ') pending_.erase(0, 1);
    is_first_ = false;
  }
  return TakeWholeCharacters();
}

std::string StreamingDetokenizer::Finish() {
  std::string text = TakeWholeCharacters();
  if (!pending_.empty()) text += kReplacementChar;
  pending_.clear();
  return text;
}

// Leaves in pending_ at most the three bytes that may yet become a character.
std::string StreamingDetokenizer::TakeWholeCharacters() {
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Char next = ReadUtf8Char(rest);
    if (next.state == Utf8State::kTruncated) break;
    text += next.state == Utf8State::kValid ? rest.substr(0, next.num_bytes) : kReplacementChar;
    rest.remove_prefix(next.num_bytes);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

}  // namespace comet
