#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"

namespace comet {

// One of an item's options as two texts: how likely the second is after the first is its score.
struct ChoiceOption {
  std::string context;
  std::string continuation;  // Begins with the space that parts it from the context.
};

struct ChoiceItem {
  std::vector<ChoiceOption> options;
  int gold = 0;  // The right option.
};

// Reads a file of one JSON object a line, in either form:
//   {"query": "…", "choices": ["…", "…"], "gold": 0}
//       option i: the query, then " " + choices[i]; a query that begins with "Question:" is closed
//       by "\nAnswer:", as the common harnesses pose PIQA and ARC
//   {"context_options": ["…", "…"], "continuation": "…", "gold": 0}
//       option i: context_options[i], then " " + continuation (WinoGrande's partial evaluation)
// Texts lose their outer white space. Lines after the first `items_max` (0: no limit) are not read.
// Errors: kInvalidArgument with file, line, got and expected.
// Source: Trinh and Le 2018, arXiv:1806.02847 for the second form.
Result<std::vector<ChoiceItem>> ParseChoiceItems(std::string_view where, std::string_view text,
                                                 int items_max);

// One option as token ids. The continuation's tokens are those of the whole text after the ones
// that it shares with the context encoded alone.
struct TokenizedOption {
  std::vector<int> ids;
  int num_context = 0;         // At least 1 and below ids.size().
  int continuation_bytes = 0;  // Without the leading space.
};

struct TokenizedItem {
  std::vector<TokenizedOption> options;
  int gold = 0;
};

// Errors: kInvalidArgument when a context has no token to predict from or an option is longer than
// `tokens_max`; the tokenizer's own.
Result<TokenizedItem> TokenizeChoiceItem(const Tokenizer& tokenizer, const ChoiceItem& item,
                                         int tokens_max);

}  // namespace comet
