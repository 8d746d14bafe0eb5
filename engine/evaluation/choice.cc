#include "engine/evaluation/choice.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "engine/evaluation/log_likelihood.h"
#include "kernels/base/math.h"

namespace comet {
namespace {

// Items scored together; each holds its own pages. Contexts and continuations are tens of tokens,
// so this many fill a step.
constexpr int kItemsMax = 32;
// Enough rows to fill the matrix products.
constexpr int kStepTokensMax = 512;
// A row is vocab_size floats: 64 MB at a vocabulary of 128k.
constexpr int kLogitsRowsMax = 128;

// Tokens that all options begin with and that predict no scored token: run once for all.
int NumShared(const TokenizedItem& item) {
  const std::vector<int>& first = item.options.front().ids;
  size_t shared = first.size();
  for (const TokenizedOption& option : item.options) {
    shared = std::min({shared, option.ids.size(), static_cast<size_t>(option.num_context) - 1});
    const auto end =
        std::mismatch(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(shared),
                      option.ids.begin())
            .first;
    shared = static_cast<size_t>(end - first.begin());
  }
  return static_cast<int>(shared);
}

// A run of one item's tokens still to be computed, in the pages of `slot`.
struct Piece {
  int slot = 0;
  const TokenizedOption* option = nullptr;
  int next = 0;                  // Position of the first token to run.
  int end = 0;                   // Past the last one.
  OptionScore* score = nullptr;  // Null: nothing of it is scored.

  int num_left() const { return end - next; }
};

// Packs pieces into steps and adds up what their logits say.
class PieceRunner {
 public:
  PieceRunner(Device& device, Model& model, int pages_per_sequence)
      : device_(device), model_(model), pages_per_sequence_(pages_per_sequence) {}

  // Runs all of them; a slot has one piece at most.
  Status Run(std::vector<Piece>& pieces);

 private:
  // A logits row and where its token's likelihood goes.
  struct Target {
    int token_id;
    OptionScore* score;
  };

  void Clear();
  // Adds as many of the piece's tokens to the step as fit.
  void Add(Piece& piece);
  Status RunStep();

  Device& device_;
  Model& model_;
  int pages_per_sequence_;
  std::vector<int> token_ids_;
  std::vector<int> query_start_;
  std::vector<int> context_length_;
  std::vector<int> page_table_;
  std::vector<int> logits_rows_;
  std::vector<Target> targets_;
  std::vector<float> host_logits_;
};

Status PieceRunner::Run(std::vector<Piece>& pieces) {
  size_t first = 0;  // Those before it are done.
  while (first < pieces.size()) {
    Clear();
    // Only the last piece of a step can be left unfinished, so pieces finish in order.
    for (size_t i = first; i < pieces.size(); ++i) {
      Add(pieces[i]);
      if (pieces[i].num_left() > 0) break;
      first = i + 1;
    }
    if (!token_ids_.empty()) COMET_RETURN_IF_ERROR(RunStep());
  }
  return Status::Ok();
}

void PieceRunner::Clear() {
  token_ids_.clear();
  query_start_.assign(1, 0);
  context_length_.clear();
  page_table_.clear();
  logits_rows_.clear();
  targets_.clear();
}

void PieceRunner::Add(Piece& piece) {
  const TokenizedOption& option = *piece.option;
  const size_t num_before = token_ids_.size();
  while (piece.num_left() > 0 && token_ids_.size() < kStepTokensMax) {
    const int position = piece.next;
    if (piece.score != nullptr && position + 1 >= option.num_context) {
      if (logits_rows_.size() == kLogitsRowsMax) break;
      logits_rows_.push_back(static_cast<int>(token_ids_.size()));
      targets_.push_back({option.ids[static_cast<size_t>(position) + 1], piece.score});
    }
    token_ids_.push_back(option.ids[static_cast<size_t>(position)]);
    ++piece.next;
  }
  if (token_ids_.size() == num_before) return;
  query_start_.push_back(static_cast<int>(token_ids_.size()));
  context_length_.push_back(piece.next);
  for (int i = 0; i < pages_per_sequence_; ++i) {
    page_table_.push_back(piece.slot * pages_per_sequence_ + i);
  }
}

Status PieceRunner::RunStep() {
  COMET_ASSIGN_OR_RETURN(const TensorView logits, model_.Forward({.token_ids = token_ids_,
                                                                  .query_start = query_start_,
                                                                  .context_length = context_length_,
                                                                  .page_table = page_table_,
                                                                  .logits_rows = logits_rows_}));
  const size_t vocab_size = static_cast<size_t>(model_.config().vocab_size);
  host_logits_.resize(logits_rows_.size() * vocab_size);
  COMET_RETURN_IF_ERROR(
      device_.CopyToHost(host_logits_.data(), logits.data(),
                         static_cast<int64_t>(host_logits_.size() * sizeof(float))));
  for (size_t i = 0; i < targets_.size(); ++i) {
    const std::span<const float> row(host_logits_.data() + i * vocab_size, vocab_size);
    const double log_likelihood = LogLikelihood(row, targets_[i].token_id);
    OptionScore& score = *targets_[i].score;
    // Infinities of two tokens must not cancel into a number.
    score.log_likelihood +=
        std::isfinite(log_likelihood) ? log_likelihood : std::numeric_limits<double>::quiet_NaN();
    ++score.num_tokens;
  }
  return Status::Ok();
}

// Fills the scores of `items`, at most kItemsMax: what is shared, then one option of each in turn.
Status ScoreGroup(PieceRunner& runner, std::span<const TokenizedItem> items,
                  std::span<ItemScore> scores) {
  std::vector<Piece> pieces;
  std::vector<int> num_shared;
  size_t num_options_max = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    num_shared.push_back(NumShared(items[i]));
    pieces.push_back({.slot = static_cast<int>(i),
                      .option = &items[i].options.front(),
                      .next = 0,
                      .end = num_shared.back()});
    num_options_max = std::max(num_options_max, items[i].options.size());
  }
  COMET_RETURN_IF_ERROR(runner.Run(pieces));
  for (size_t option_idx = 0; option_idx < num_options_max; ++option_idx) {
    pieces.clear();
    for (size_t i = 0; i < items.size(); ++i) {
      if (option_idx >= items[i].options.size()) continue;
      const TokenizedOption& option = items[i].options[option_idx];
      // The last token predicts nothing.
      pieces.push_back({.slot = static_cast<int>(i),
                        .option = &option,
                        .next = num_shared[i],
                        .end = static_cast<int>(option.ids.size()) - 1,
                        .score = &scores[i].options[option_idx]});
    }
    COMET_RETURN_IF_ERROR(runner.Run(pieces));
  }
  return Status::Ok();
}

double Normalised(const OptionScore& score, ChoiceNormalisation normalisation) {
  switch (normalisation) {
    case ChoiceNormalisation::kBytes: return score.log_likelihood / score.num_bytes;
    case ChoiceNormalisation::kTokens: return score.log_likelihood / score.num_tokens;
    case ChoiceNormalisation::kNone: return score.log_likelihood;
  }
  return score.log_likelihood;
}

Estimate EstimateMean(const std::vector<double>& values) {
  const double count = static_cast<double>(values.size());
  Estimate estimate;
  if (values.empty()) return estimate;
  for (const double value : values) estimate.mean += value;
  estimate.mean /= count;
  if (values.size() < 2) return estimate;
  double sum_sq = 0.0;
  for (const double value : values) sum_sq += (value - estimate.mean) * (value - estimate.mean);
  estimate.standard_error = std::sqrt(sum_sq / (count - 1.0) / count);
  return estimate;
}

int PagesPerSequence(std::span<const TokenizedItem> items) {
  size_t tokens_max = 1;
  for (const TokenizedItem& item : items) {
    for (const TokenizedOption& option : item.options) {
      tokens_max = std::max(tokens_max, option.ids.size());
    }
  }
  return CeilDiv(static_cast<int>(tokens_max), kPageTokens);
}

}  // namespace

bool ItemScore::has_nonfinite() const {
  return std::any_of(options.begin(), options.end(),
                     [](const OptionScore& score) { return !std::isfinite(score.log_likelihood); });
}

bool ItemScore::IsRight(ChoiceNormalisation normalisation) const {
  if (has_nonfinite()) return false;
  const auto best = std::max_element(
      options.begin(), options.end(), [&](const OptionScore& a, const OptionScore& b) {
        return Normalised(a, normalisation) < Normalised(b, normalisation);
      });
  return best - options.begin() == gold;
}

ModelLimits ChoiceLimits(std::span<const TokenizedItem> items) {
  const int pages_per_sequence = PagesPerSequence(items);
  return {.step_tokens_max = kStepTokensMax,
          .sequences_max = kItemsMax,
          .logits_rows_max = kLogitsRowsMax,
          .pages_per_sequence_max = pages_per_sequence,
          .num_pages = kItemsMax * pages_per_sequence};
}

Result<std::vector<ItemScore>> ScoreChoices(Device& device, Model& model,
                                            std::span<const TokenizedItem> items,
                                            const std::function<void(int, int)>& progress) {
  std::vector<ItemScore> scores;
  for (const TokenizedItem& item : items) {
    ItemScore& score = scores.emplace_back(ItemScore{.options = {}, .gold = item.gold});
    for (const TokenizedOption& option : item.options) {
      score.options.push_back({.num_bytes = option.continuation_bytes});
    }
  }
  PieceRunner runner(device, model, PagesPerSequence(items));
  for (size_t first = 0; first < items.size(); first += kItemsMax) {
    const size_t count = std::min<size_t>(kItemsMax, items.size() - first);
    COMET_RETURN_IF_ERROR(
        ScoreGroup(runner, items.subspan(first, count), std::span(scores).subspan(first, count)));
    if (progress) progress(static_cast<int>(first + count), static_cast<int>(items.size()));
  }
  return scores;
}

Estimate Accuracy(std::span<const ItemScore> items, ChoiceNormalisation normalisation) {
  std::vector<double> right;
  for (const ItemScore& item : items) right.push_back(item.IsRight(normalisation) ? 1.0 : 0.0);
  return EstimateMean(right);
}

Estimate PairedDifference(std::span<const ItemScore> items, std::span<const ItemScore> reference,
                          ChoiceNormalisation normalisation) {
  std::vector<double> differences;
  for (size_t i = 0; i < items.size(); ++i) {
    differences.push_back((items[i].IsRight(normalisation) ? 1.0 : 0.0) -
                          (reference[i].IsRight(normalisation) ? 1.0 : 0.0));
  }
  return EstimateMean(differences);
}

}  // namespace comet
