#pragma once

#include <array>
#include <numeric>
#include <vector>

#include "engine/model/step_input.h"
#include "kernels/base/math.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {

// The step of one sequence's first tokens, in pages 0, 1 ...: for who runs a layer or a model
// outside an engine. All token ids are 0.
class PromptStep {
 public:
  // `pages_per_sequence_max` as the step's workspace has it.
  PromptStep(int num_tokens, int pages_per_sequence_max)
      : token_ids_(static_cast<size_t>(num_tokens), 0),
        query_start_{0, num_tokens},
        page_table_(static_cast<size_t>(pages_per_sequence_max), 0),
        last_row_(num_tokens - 1) {
    std::iota(page_table_.begin(), page_table_.begin() + CeilDiv(num_tokens, kPageTokens), 0);
  }

  // Valid while this lives. Logits: of the last token, or none.
  StepInput Input(bool with_logits) const {
    return {.token_ids = token_ids_,
            .query_start = query_start_,
            .context_length = {&query_start_[1], 1},
            .page_table = page_table_,
            .logits_rows = {&last_row_, with_logits ? size_t{1} : size_t{0}}};
  }

 private:
  std::vector<int> token_ids_;
  std::array<int, 2> query_start_;
  std::vector<int> page_table_;
  int last_row_;
};

}  // namespace comet
