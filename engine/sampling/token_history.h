#pragma once

#include <span>
#include <unordered_map>
#include <vector>

namespace comet {

// The distinct tokens of one sequence, in order of first appearance, and how often each is in its
// output: what the penalties of SampleArgs read. Kept up by one token at a time. Confined to the
// step thread.
class TokenHistory {
 public:
  explicit TokenHistory(std::span<const int> prompt_ids);

  void AddOutput(int token_id);

  std::span<const int> token_ids() const { return token_ids_; }
  std::span<const int> output_counts() const { return output_counts_; }

 private:
  int IndexOf(int token_id);

  std::vector<int> token_ids_;
  std::vector<int> output_counts_;  // One a token id.
  std::unordered_map<int, int> index_by_id_;
};

}  // namespace comet
