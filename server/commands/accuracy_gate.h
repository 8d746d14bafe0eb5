#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/base/status.h"

namespace comet {

// Held-out predictions from which on a ratio of perplexities is judged: with fewer, a handful of
// tokens decides it.
inline constexpr int64_t kJudgedPredictionsMin = 256;

// What a checkpoint's accuracy report says of the precision it is to be served with.
struct AccuracyVerdict {
  Status status;  // Not OK: the report says it is broken, or cannot be believed.
  // Held-out perplexity over the float model's; absent when the report has none, or one of fewer
  // than kJudgedPredictionsMin predictions.
  std::optional<double> perplexity_ratio;
};

// Reads accuracy.json of a checkpoint folder. `activation_bits` is what will be served, never
// "auto": "mixed" is judged by what was measured with the checkpoint's mix, all else by INT8
// activations. Broken is: a perplexity or an output error that is no number, or a perplexity above
// `ratio_max` times the float model's on kJudgedPredictionsMin predictions or more. An unquantised
// model, file or folder, has no report and passes. Status: kFailedPrecondition (broken, or no
// report), kDataLoss (a report that cannot be read).
AccuracyVerdict JudgeAccuracy(const std::string& model, const std::string& activation_bits,
                              double ratio_max);

}  // namespace comet
