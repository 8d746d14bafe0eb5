#pragma once

#include <functional>
#include <string_view>

#include "engine/tokenizer/piece_trie.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// Finds the tokens that a text names literally, which no merge may touch: control tokens when the
// caller trusts the text, user-defined tokens always. The leftmost match wins, then the longest, as
// in Hugging Face's added vocabulary. Immutable.
class SpecialTokens {
 public:
  // `with_user_defined` is false where the tokenizer finds user-defined pieces itself.
  SpecialTokens(const Vocabulary& vocabulary, bool with_user_defined);

  using OnText = std::function<Status(std::string_view)>;
  using OnToken = std::function<void(int)>;

  // Calls one of the two for each part of the text, in order; parts are not empty.
  Status Split(std::string_view text, bool parse_special, const OnText& on_text,
               const OnToken& on_token) const;

 private:
  PieceTrie always_;
  PieceTrie when_parsed_;  // Those of always_ too.
};

}  // namespace comet
