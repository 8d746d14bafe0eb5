#include "engine/sampling/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace comet {
namespace {

// fallback[n] is the length of the longest proper prefix of text[0, n) that is also its suffix.
std::vector<size_t> FallbackOf(std::string_view text) {
  std::vector<size_t> fallback(text.size() + 1, 0);
  size_t border = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (border > 0 && text[i] != text[border]) border = fallback[border];
    if (text[i] == text[border]) ++border;
    fallback[i + 1] = border;
  }
  return fallback;
}

}  // namespace

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& text : stops) {
    COMET_CHECK(!text.empty());
    patterns_.push_back({text, FallbackOf(text)});
  }
}

std::string StopMatcher::Push(std::string_view piece) {
  if (is_matched_) return {};
  if (patterns_.empty()) return std::string(piece);
  std::string text = std::exchange(held_, {});
  size_t num_held = text.size();
  for (const char byte : piece) {
    text.push_back(byte);
    size_t num_complete = 0;
    num_held = 0;
    for (Pattern& pattern : patterns_) {
      size_t& n = pattern.num_matched;
      while (n > 0 && pattern.text[n] != byte) n = pattern.fallback[n];
      if (pattern.text[n] == byte) ++n;
      if (n == pattern.text.size()) num_complete = std::max(num_complete, n);
      num_held = std::max(num_held, n);
    }
    if (num_complete > 0) {
      is_matched_ = true;
      text.resize(text.size() - num_complete);
      return text;
    }
  }
  held_ = text.substr(text.size() - num_held);
  text.resize(text.size() - num_held);
  return text;
}

std::string StopMatcher::Finish() {
  for (Pattern& pattern : patterns_) pattern.num_matched = 0;
  return std::exchange(held_, {});
}

}  // namespace comet
