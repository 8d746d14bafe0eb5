#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "engine/tokenizer/piece_trie.h"
#include "engine/tokenizer/vocabulary.h"
#include "kernels/base/status.h"

namespace comet {

// Finds the tokens that a text names literally, which no merge may touch: control tokens when the
// caller trusts the text, user-defined tokens always. The leftmost match wins, then the longest, as
// in Hugging Face's added vocabulary. Immutable.
class SpecialTokens {
 public:
  enum class Stage {
    kControl,     // Control tokens in the text as given.
    kRaw,         // These and user-defined ones without is_normalized, in the text as given.
    kNormalized,  // User-defined ones with is_normalized, in the normalised text.
  };
  // How a piece reads in the text that is searched.
  using Spelling = std::function<std::string(std::string_view piece)>;

  SpecialTokens(const Vocabulary& vocabulary, Stage stage, const Spelling& spelling);

  using OnText = std::function<Status(std::string_view)>;
  using OnToken = std::function<void(int)>;

  // Calls one of the two for each part of the text, in order; parts are not empty.
  Status Split(std::string_view text, bool parse_special, const OnText& on_text,
               const OnToken& on_token) const;

 private:
  const AddedTokenRule* FindRule(int token_id) const;

  PieceTrie always_;
  PieceTrie when_parsed_;  // Those of always_ too.
  std::unordered_map<int, AddedTokenRule> rules_;
};

}  // namespace comet
