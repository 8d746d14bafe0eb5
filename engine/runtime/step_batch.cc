#include "engine/runtime/step_batch.h"

#include <algorithm>
#include <cstddef>

#include "kernels/base/check.h"

namespace comet {

StepBatch::StepBatch(const ModelLimits& limits)
    : pages_per_sequence_max_(static_cast<size_t>(limits.pages_per_sequence_max)) {
  const size_t sequences_max = static_cast<size_t>(limits.sequences_max);
  token_ids_.reserve(static_cast<size_t>(limits.step_tokens_max));
  query_start_.reserve(sequences_max + 1);
  context_length_.reserve(sequences_max);
  page_table_.reserve(sequences_max * pages_per_sequence_max_);
  logits_rows_.reserve(sequences_max);
}

void StepBatch::Fill(const StepPlan& plan) {
  token_ids_.clear();
  query_start_.assign(1, 0);
  context_length_.clear();
  logits_rows_.clear();
  page_table_.resize(plan.sequences().size() * pages_per_sequence_max_);
  auto page_row = page_table_.begin();
  for (const PlannedSequence& planned : plan.sequences()) {
    const Sequence& sequence = *planned.sequence;
    const auto first = sequence.token_ids.begin() + sequence.num_computed_tokens;
    token_ids_.insert(token_ids_.end(), first, first + planned.num_tokens);
    query_start_.push_back(static_cast<int>(token_ids_.size()));
    context_length_.push_back(planned.context_length());
    // What is behind the sequence's own pages is never read (BatchView).
    const std::span<const int> page_ids = sequence.page_table.page_ids();
    COMET_CHECK(page_ids.size() <= pages_per_sequence_max_);
    std::copy(page_ids.begin(), page_ids.end(), page_row);
    page_row += static_cast<ptrdiff_t>(pages_per_sequence_max_);
    if (planned.needs_logits()) logits_rows_.push_back(query_start_.back() - 1);
  }
}

StepInput StepBatch::input() const {
  return {.token_ids = token_ids_,
          .query_start = query_start_,
          .context_length = context_length_,
          .page_table = page_table_,
          .logits_rows = logits_rows_};
}

}  // namespace comet
