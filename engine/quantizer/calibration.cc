#include "engine/quantizer/calibration.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "kernels/base/str_cat.h"

namespace comet {

namespace {

// Fewer say nothing of a model.
constexpr size_t kTextTokensMin = 32;
constexpr size_t kHeldOutShare = 8;  // One in this many.

Result<std::vector<int>> Encode(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.Encode(text, {.add_special = true, .parse_special = true});
}

// All of window_tokens but the last, which is dropped when it is shorter than a quarter.
std::vector<std::vector<int>> CutWindows(std::span<const int> ids, int window_tokens) {
  const size_t window = static_cast<size_t>(window_tokens);
  std::vector<std::vector<int>> windows;
  for (size_t first = 0; first < ids.size(); first += window) {
    const std::span<const int> part = ids.subspan(first, std::min(window, ids.size() - first));
    if (!windows.empty() && part.size() < window / 4) break;
    windows.emplace_back(part.begin(), part.end());
  }
  return windows;
}

}  // namespace

Result<std::vector<std::vector<int>>> CalibrationWindows(const Tokenizer& tokenizer,
                                                         std::string_view text,
                                                         const CalibrationOptions& options) {
  COMET_ASSIGN_OR_RETURN(std::vector<int> ids, Encode(tokenizer, text));
  if (ids.empty())
    return InvalidArgument("calibration: the text has 0 tokens, expected at least 1");
  ids.resize(std::min(ids.size(), static_cast<size_t>(options.tokens_max)));
  return CutWindows(ids, options.window_tokens);
}

Result<CalibrationText> SplitCalibrationText(const Tokenizer& tokenizer, std::string_view text,
                                             const CalibrationOptions& options) {
  COMET_ASSIGN_OR_RETURN(const std::vector<int> ids, Encode(tokenizer, text));
  if (ids.size() < kTextTokensMin) {
    return InvalidArgument(StrCat("calibration: the text has ", ids.size(),
                                  " tokens, expected at least ", kTextTokensMin));
  }
  const size_t num_held_out =
      std::min(ids.size() / kHeldOutShare, static_cast<size_t>(options.held_out_tokens_max));
  const size_t num_calibration =
      std::min(ids.size() - num_held_out, static_cast<size_t>(options.tokens_max));
  const std::span<const int> all(ids);
  CalibrationText result;
  result.windows = CutWindows(all.first(num_calibration), options.window_tokens);
  const std::span<const int> behind =
      all.subspan(num_calibration, ids.size() - num_held_out - num_calibration);
  result.tuning = CutWindows(
      behind.first(std::min(behind.size(), static_cast<size_t>(options.tuning_tokens_max))),
      options.window_tokens);
  result.held_out = CutWindows(all.last(num_held_out), options.window_tokens);
  // A window of one token predicts nothing.
  std::erase_if(result.held_out, [](const std::vector<int>& window) { return window.size() < 2; });
  return result;
}

}  // namespace comet
