#include "engine/evaluation/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/evaluation/log_likelihood.h"
#include "kernels/base/math.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// Tokens of one forward pass: enough rows to fill the matrix products, few enough that the logits
// (a row of vocab_size floats each) stay near the cache.
constexpr int kChunkTokens = 256;

struct Sums {
  double nll = 0.0;
  int64_t num_predictions = 0;
  int64_t num_nonfinite = 0;
};

// Runs one window through the model in chunks and adds up its predictions.
class WindowEvaluator {
 public:
  WindowEvaluator(Device& device, Model& model, int window_tokens)
      : device_(device),
        model_(model),
        page_table_(static_cast<size_t>(CeilDiv(window_tokens, kPageTokens))) {
    std::iota(page_table_.begin(), page_table_.end(), 0);
  }

  Status Add(std::span<const int> window, Sums& sums) {
    // The last token of a window predicts nothing inside it, so it is never run.
    const int num_inputs = static_cast<int>(window.size()) - 1;
    for (int first = 0; first < num_inputs; first += kChunkTokens) {
      const int count = std::min(kChunkTokens, num_inputs - first);
      COMET_RETURN_IF_ERROR(AddChunk(window, first, count, sums));
    }
    return Status::Ok();
  }

 private:
  Status AddChunk(std::span<const int> window, int first, int count, Sums& sums) {
    const int query_start[] = {0, count};
    const int context_length = first + count;
    rows_.resize(static_cast<size_t>(count));
    std::iota(rows_.begin(), rows_.end(), 0);
    COMET_ASSIGN_OR_RETURN(const TensorView logits,
                           model_.Forward({.token_ids = window.subspan(static_cast<size_t>(first),
                                                                       static_cast<size_t>(count)),
                                           .query_start = query_start,
                                           .context_length = {&context_length, 1},
                                           .page_table = page_table_,
                                           .logits_rows = rows_}));

    const int vocab_size = model_.config().vocab_size;
    host_logits_.resize(static_cast<size_t>(vocab_size) * static_cast<size_t>(count));
    COMET_RETURN_IF_ERROR(
        device_.CopyToHost(host_logits_.data(), logits.data(),
                           static_cast<int64_t>(host_logits_.size() * sizeof(float))));
    for (int i = 0; i < count; ++i) {
      const std::span<const float> row(host_logits_.data() + static_cast<int64_t>(i) * vocab_size,
                                       static_cast<size_t>(vocab_size));
      const double nll = -LogLikelihood(row, window[static_cast<size_t>(first + i + 1)]);
      if (!std::isfinite(nll)) {
        ++sums.num_nonfinite;
        continue;
      }
      sums.nll += nll;
      ++sums.num_predictions;
    }
    return Status::Ok();
  }

  Device& device_;
  Model& model_;
  std::vector<int> page_table_;
  std::vector<int> rows_;
  std::vector<float> host_logits_;
};

}  // namespace

ModelLimits PerplexityLimits(const PerplexityOptions& options) {
  const int num_pages = CeilDiv(options.window_tokens, kPageTokens);
  return {.step_tokens_max = kChunkTokens,
          .sequences_max = 1,
          .logits_rows_max = kChunkTokens,
          .pages_per_sequence_max = num_pages,
          .num_pages = num_pages};
}

Result<PerplexityResult> EvaluatePerplexity(Device& device, Model& model,
                                            std::span<const int> token_ids,
                                            const PerplexityOptions& options,
                                            const std::function<void(int, int, double)>& progress) {
  const auto started = std::chrono::steady_clock::now();
  const size_t window_tokens = static_cast<size_t>(options.window_tokens);
  int num_windows = static_cast<int>(token_ids.size() / window_tokens);
  if (options.windows_max > 0) num_windows = std::min(num_windows, options.windows_max);
  if (num_windows == 0) {
    return InvalidArgument(StrCat("perplexity: text has ", token_ids.size(),
                                  " tokens, expected at least one window of ", window_tokens));
  }

  WindowEvaluator evaluator(device, model, options.window_tokens);
  Sums sums;
  for (int i = 0; i < num_windows; ++i) {
    const auto window = token_ids.subspan(static_cast<size_t>(i) * window_tokens, window_tokens);
    COMET_RETURN_IF_ERROR(evaluator.Add(window, sums));
    const double mean_nll =
        sums.nll / static_cast<double>(std::max<int64_t>(sums.num_predictions, 1));
    if (progress) progress(i + 1, num_windows, mean_nll);
  }

  PerplexityResult result;
  // A mean without the predictions that failed would flatter a broken model.
  result.mean_nll =
      sums.num_nonfinite > 0
          ? std::numeric_limits<double>::quiet_NaN()
          : sums.nll / static_cast<double>(std::max<int64_t>(sums.num_predictions, 1));
  result.perplexity = std::exp(result.mean_nll);
  result.num_windows = num_windows;
  result.num_predictions = sums.num_predictions;
  result.num_nonfinite_rows = sums.num_nonfinite;
  result.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result;
}

}  // namespace comet
