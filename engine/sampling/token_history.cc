#include "engine/sampling/token_history.h"

#include <cstddef>

namespace comet {

TokenHistory::TokenHistory(std::span<const int> prompt_ids) {
  for (const int token_id : prompt_ids) IndexOf(token_id);
}

void TokenHistory::AddOutput(int token_id) {
  ++output_counts_[static_cast<size_t>(IndexOf(token_id))];
}

int TokenHistory::IndexOf(int token_id) {
  const auto [entry, is_new] =
      index_by_id_.try_emplace(token_id, static_cast<int>(token_ids_.size()));
  if (is_new) {
    token_ids_.push_back(token_id);
    output_counts_.push_back(0);
  }
  return entry->second;
}

}  // namespace comet
