#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/evaluation/choice_items.h"
#include "engine/model/model.h"
#include "kernels/base/status.h"
#include "kernels/device.h"

namespace comet {

// What an option's log-likelihood is divided by before options are compared.
enum class ChoiceNormalisation { kBytes, kTokens, kNone };

struct OptionScore {
  double log_likelihood = 0.0;  // Of the continuation's tokens; NaN when the logits are not finite.
  int num_tokens = 0;
  int num_bytes = 0;
};

struct ItemScore {
  std::vector<OptionScore> options;
  int gold = 0;

  bool has_nonfinite() const;
  // Whether the gold option is the likeliest; the first of equals counts as chosen. An item with a
  // score that is no number is wrong.
  bool IsRight(ChoiceNormalisation normalisation) const;
};

// What ScoreChoices() asks of a Model at load.
ModelLimits ChoiceLimits(std::span<const TokenizedItem> items);

// Scores every item's options, many items a step. The tokens that an item's options share are run
// once: each option then overwrites the cache from there on, and since a query reads every key and
// value as the cache stores them, the scores are those of each option run alone. The model must
// have been loaded with ChoiceLimits(). `progress` (may be null) gets (items done, items in all).
Result<std::vector<ItemScore>> ScoreChoices(Device& device, Model& model,
                                            std::span<const TokenizedItem> items,
                                            const std::function<void(int, int)>& progress);

// A share and the standard error of its estimate.
struct Estimate {
  double mean = 0.0;
  double standard_error = 0.0;  // 0 for fewer than two items.
};

// Share of items answered right.
Estimate Accuracy(std::span<const ItemScore> items, ChoiceNormalisation normalisation);
// Mean over items of right(items) - right(reference), item by item: the pairing removes the noise
// that both models share. The spans hold the same items.
Estimate PairedDifference(std::span<const ItemScore> items, std::span<const ItemScore> reference,
                          ChoiceNormalisation normalisation);

}  // namespace comet
