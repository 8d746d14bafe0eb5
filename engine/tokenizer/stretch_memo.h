#pragma once

#include <cstddef>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace comet {

// Words repeat, so their tokens are remembered by their place in the output: about 4 of 5 stretches
// of English prose need no merging. For one text, which outlives it; confined to one thread.
class StretchMemo {
 public:
  explicit StretchMemo(std::vector<int>& token_ids) : token_ids_(token_ids) {}

  // Appends the stretch's tokens: those of its first occurrence, or what encode(stretch) appends.
  template <typename Encode>
  void Append(std::string_view stretch, Encode encode) {
    if (stretch.size() > kRememberedBytesMax) return encode(stretch);
    const size_t begin = token_ids_.size();
    const auto [it, is_new] = seen_.try_emplace(stretch, begin, 0);
    Range& range = it->second;
    if (is_new) {
      encode(stretch);
      range.second = token_ids_.size() - begin;
      return;
    }
    for (size_t i = 0; i < range.second; ++i) token_ids_.push_back(token_ids_[range.first + i]);
  }

 private:
  // Longer stretches seldom repeat; hashing them would only cost time.
  static constexpr size_t kRememberedBytesMax = 64;

  using Range = std::pair<size_t, size_t>;  // First and count, in token_ids_.

  std::vector<int>& token_ids_;
  std::unordered_map<std::string_view, Range> seen_;
};

}  // namespace comet
