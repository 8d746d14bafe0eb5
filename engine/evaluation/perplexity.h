#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "engine/model/model.h"
#include "kernels/base/status.h"
#include "kernels/device.h"

namespace comet {

struct PerplexityOptions {
  int window_tokens = 2048;  // Length of one window.
  int windows_max = 0;       // 0: all that the text fills.
};

struct PerplexityResult {
  double perplexity = 0.0;  // exp(mean_nll)
  double mean_nll = 0.0;    // Natural log, over all predictions.
  int num_windows = 0;
  int64_t num_predictions = 0;  // window_tokens - 1 of each window.
  int64_t num_nonfinite_rows =
      0;  // Predictions without a finite likelihood; any makes the rest NaN.
  double seconds = 0.0;
};

// What EvaluatePerplexity() asks of a Model at load, beside num_pages: see PerplexityLimits().
ModelLimits PerplexityLimits(const PerplexityOptions& options);

// Perplexity by the usual protocol: non-overlapping windows of the token stream, no BOS added a
// window, mean negative log-likelihood of the window_tokens - 1 predictions of each. The model must
// have been loaded with PerplexityLimits(). `progress` (may be null) gets (windows done, windows in
// all, mean nll). Errors: kInvalidArgument when the text does not fill one window.
Result<PerplexityResult> EvaluatePerplexity(Device& device, Model& model,
                                            std::span<const int> token_ids,
                                            const PerplexityOptions& options,
                                            const std::function<void(int, int, double)>& progress);

}  // namespace comet
