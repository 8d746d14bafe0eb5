#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace comet {

// Finds the first stop text in a text that comes in pieces, and lets through only what can't be
// part of one. First is the one complete first, reading byte by byte; of two complete at once, the
// longer. So the result does not depend on how the text is cut into pieces. Confined to one thread.
class StopMatcher {
 public:
  // None of `stops` is empty.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Takes the next piece and returns what became certain: everything but the longest end that a
  // stop text could begin with. Once is_matched(), what came before the stop text, then nothing.
  std::string Push(std::string_view piece);
  // The text has ended: returns what was held back. Nothing when is_matched().
  std::string Finish();

  bool is_matched() const { return is_matched_; }

 private:
  // One stop text and how much of it the text so far ends with (Knuth, Morris, Pratt 1977).
  struct Pattern {
    std::string text;
    std::vector<size_t> fallback;  // Of each prefix, the longest proper border.
    size_t num_matched = 0;
  };

  std::vector<Pattern> patterns_;
  std::string held_;  // A suffix of the text that begins some stop text.
  bool is_matched_ = false;
};

}  // namespace comet
