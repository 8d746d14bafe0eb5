#include "engine/quantizer/calibration.h"

#include <algorithm>

namespace comet {

Result<std::vector<std::vector<int>>> CalibrationWindows(const Tokenizer& tokenizer,
                                                         std::string_view text,
                                                         const CalibrationOptions& options) {
  COMET_ASSIGN_OR_RETURN(std::vector<int> ids,
                         tokenizer.Encode(text, {.add_special = true, .parse_special = true}));
  if (ids.empty())
    return InvalidArgument("calibration: the text has 0 tokens, expected at least 1");
  ids.resize(std::min(ids.size(), static_cast<size_t>(options.tokens_max)));

  const size_t window = static_cast<size_t>(options.window_tokens);
  std::vector<std::vector<int>> windows;
  for (size_t first = 0; first < ids.size(); first += window) {
    const size_t count = std::min(window, ids.size() - first);
    if (!windows.empty() && count < window / 4) break;
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(first);
    windows.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
  }
  return windows;
}

}  // namespace comet
