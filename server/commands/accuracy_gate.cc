#include "server/commands/accuracy_gate.h"

#include <cmath>

#include "engine/loader/accuracy_file.h"
#include "engine/loader/folder_config.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

Status FindBrokenLayer(const std::string& model, const AccuracyFile& accuracy,
                       double LinearErrors::*error) {
  for (size_t i = 0; i < accuracy.layers.size(); ++i) {
    for (size_t j = 0; j < kAccuracyLinears.size(); ++j) {
      if (std::isfinite(accuracy.layers[i][j].*error)) continue;
      return FailedPrecondition(StrCat(model, ": the accuracy report has no number for layer ", i,
                                       "'s ", kAccuracyLinears[j],
                                       ": its outputs were NaN or infinite"));
    }
  }
  return Status::Ok();
}

AccuracyVerdict JudgeReport(const std::string& model, const AccuracyFile& accuracy, bool is_mixed,
                            double ratio_max) {
  const Status layers = FindBrokenLayer(
      model, accuracy, is_mixed ? &LinearErrors::output_mixed : &LinearErrors::output_8);
  if (!layers.ok()) return {.status = layers, .perplexity_ratio = std::nullopt};
  if (!accuracy.held_out) return {};
  const double perplexity = is_mixed ? accuracy.held_out->mixed : accuracy.held_out->int8;
  const double ratio = perplexity / accuracy.held_out->source;
  if (!std::isfinite(ratio)) {
    return {.status = FailedPrecondition(StrCat(model, ": held-out perplexity is ", perplexity,
                                                " (float model: ", accuracy.held_out->source,
                                                "), expected finite numbers")),
            .perplexity_ratio = std::nullopt};
  }
  if (accuracy.held_out->num_predictions < kJudgedPredictionsMin) return {};
  if (ratio > ratio_max) {
    return {.status = FailedPrecondition(StrCat(model, ": held-out perplexity is ", perplexity,
                                                ", ", ratio, " times the float model's ",
                                                accuracy.held_out->source, ", expected at most ",
                                                ratio_max, " times (--perplexity-ratio-max)")),
            .perplexity_ratio = ratio};
  }
  return {.status = Status::Ok(), .perplexity_ratio = ratio};
}

}  // namespace

AccuracyVerdict JudgeAccuracy(const std::string& model, const std::string& activation_bits,
                              double ratio_max) {
  // What cannot be looked at fails when it is loaded, which says why.
  if (!IsCometCheckpoint(model)) return {};
  const Result<AccuracyFile> accuracy = ReadAccuracyFile(model);
  if (accuracy.ok()) {
    return JudgeReport(model, *accuracy, activation_bits == "mixed", ratio_max);
  }
  if (accuracy.status().code() != StatusCode::kNotFound) {
    return {.status = accuracy.status(), .perplexity_ratio = std::nullopt};
  }
  return {.status = FailedPrecondition(StrCat(
              model, ": has no accuracy.json, expected the report that comet quantize writes")),
          .perplexity_ratio = std::nullopt};
}

}  // namespace comet
