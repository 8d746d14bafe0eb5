#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace comet {

// Cuts text into the stretches that byte-level BPE never merges across, by the regular expression
// the vocabulary was trained with. Immutable, so thread-safe.
class PreTokenizer {
 public:
  // The name of a pattern as tokenizer.json spells it (a Split's Regex), empty for one it does not
  // know. Patterns are known as a whole: they come with a file, and matching a stranger's pattern
  // may take exponential time.
  static std::string NameOfSplit(std::string_view pattern);

  // Errors: kUnimplemented for a name it does not know.
  static Result<std::unique_ptr<PreTokenizer>> Create(const std::string& name);
  ~PreTokenizer();

  // Calls on_stretch for each stretch in order; together they are the text. Bytes that are not
  // UTF-8 make stretches of their own. Errors: kResourceExhausted when a match limit is hit.
  Status Split(std::string_view text,
               const std::function<void(std::string_view)>& on_stretch) const;

 private:
  struct Pattern;

  explicit PreTokenizer(std::unique_ptr<Pattern> pattern);

  std::unique_ptr<Pattern> pattern_;
};

}  // namespace comet
