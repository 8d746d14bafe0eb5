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
  // Errors: kUnimplemented for a name it does not know.
  static Result<std::unique_ptr<PreTokenizer>> Create(const std::string& name);
  ~PreTokenizer();

  // Calls on_stretch for each stretch in order; together they are the text. Bytes that are not
  // UTF-8 make stretches of their own. Errors: kResourceExhausted when a match limit is hit.
  Status Split(std::string_view text,
               const std::function<void(std::string_view)>& on_stretch) const;

  // A stretch that is itself in the vocabulary is one token, whatever the merges say.
  bool ignores_merges() const { return ignores_merges_; }

 private:
  struct Pattern;

  PreTokenizer(std::unique_ptr<Pattern> pattern, bool ignores_merges);

  std::unique_ptr<Pattern> pattern_;
  bool ignores_merges_;
};

}  // namespace comet
