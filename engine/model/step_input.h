#pragma once

#include <span>

namespace comet {

// One step's tokens, host memory, ragged by sequence (see BatchView).
struct StepInput {
  std::span<const int> token_ids;       // [num_tokens]; negative: see EmbeddingArgs.
  std::span<const int> query_start;     // [num_sequences + 1]
  std::span<const int> context_length;  // [num_sequences]
  std::span<const int> page_table;      // [num_sequences, pages_per_sequence_max] row-major
  std::span<const int> logits_rows;     // Token rows whose logits are wanted, ascending.
};

// Sequences of one token that nobody owns and that fill a step up to the size of captured work.
// Their keys and values go to a page that is in no pool, so that they change nothing.
struct StepPadding {
  int num_sequences = 0;       // Of the filled step; fewer than it has: none.
  int context_length_max = 0;  // What the filled step counts as its longest context, at least.
  int page_id = 0;
};

}  // namespace comet
