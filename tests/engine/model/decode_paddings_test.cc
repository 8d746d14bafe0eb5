#include "engine/model/decode_paddings.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "engine/model/model.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {
namespace {

constexpr int kPageId = 7;

ModelLimits Limits(int sequences_max, int pages_per_sequence_max) {
  return {.step_tokens_max = 4096,
          .sequences_max = sequences_max,
          .logits_rows_max = sequences_max,
          .pages_per_sequence_max = pages_per_sequence_max};
}

// A decode step of `num_sequences` contexts of `context_length` tokens.
struct DecodeStep {
  std::vector<int> token_ids;
  std::vector<int> query_start;
  std::vector<int> context_length;

  DecodeStep(int num_sequences, int context)
      : token_ids(static_cast<size_t>(num_sequences)),
        query_start(static_cast<size_t>(num_sequences) + 1),
        context_length(static_cast<size_t>(num_sequences), context) {
    std::iota(query_start.begin(), query_start.end(), 0);
  }
  StepInput input() const {
    return {.token_ids = token_ids,
            .query_start = query_start,
            .context_length = context_length,
            .page_table = {},
            .logits_rows = token_ids};
  }
};

TEST(DecodePaddings, HoldEveryDecodeStepWithinTheLimits) {
  for (const int sequences_max : {1, 3, 64, 250, 1000}) {
    for (const int pages_max : {1, 16, 17, 2048}) {
      const auto paddings = DecodePaddings(Limits(sequences_max, pages_max), kPageId);

      for (int n = 1; n <= sequences_max; ++n) {
        for (const int context : {1, pages_max * kPageTokens}) {
          const DecodeStep step(n, context);
          const int found = FindPadding(paddings, step.input());
          ASSERT_GE(found, 0) << n << " of " << sequences_max;
          const StepPadding& padding = paddings[static_cast<size_t>(found)];
          EXPECT_GE(padding.num_sequences, n);
          EXPECT_LE(padding.num_sequences, sequences_max);
          EXPECT_GE(padding.context_length_max, context);
          EXPECT_LE(padding.context_length_max, pages_max * kPageTokens);
          EXPECT_EQ(padding.page_id, kPageId);
        }
      }
    }
  }
}

TEST(DecodePaddings, AFewSequencesOfShortContextAreNotCutAsLongOnes) {
  const auto paddings = DecodePaddings(Limits(64, 128), kPageId);
  const DecodeStep step(1, 1000);

  const StepPadding& padding = paddings[static_cast<size_t>(FindPadding(paddings, step.input()))];

  EXPECT_EQ(padding.num_sequences, 1);
  EXPECT_EQ(padding.context_length_max, 1024);
}

TEST(DecodePaddings, AStepWithAPromptFitsNone) {
  const auto paddings = DecodePaddings(Limits(64, 128), kPageId);
  DecodeStep step(2, 100);
  step.token_ids.push_back(0);  // The second sequence has two tokens.
  step.query_start.back() = 3;
  StepInput prompt = step.input();
  prompt.logits_rows = prompt.logits_rows.first(2);
  const DecodeStep many(65, 100);

  EXPECT_EQ(FindPadding(paddings, prompt), -1);
  EXPECT_EQ(FindPadding(paddings, many.input()), -1);
  EXPECT_EQ(FindPadding({}, DecodeStep(1, 1).input()), -1);
}

}  // namespace
}  // namespace comet
