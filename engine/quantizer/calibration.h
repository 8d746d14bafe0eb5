#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"

namespace comet {

struct CalibrationOptions {
  int window_tokens = 512;  // Tokens run through the model together, from position 0.
  int tokens_max = 32768;   // Of all windows; a longer text is cut.
};

// The English prose, dialogue, code and figures that calibrate when no text is given.
std::string_view DefaultCalibrationText();

// The text as windows of token ids: all of window_tokens but the last, which holds the rest when
// that is at least a quarter of a window or the only one. Errors: kInvalidArgument when the text
// gives no token; the tokenizer's own.
Result<std::vector<std::vector<int>>> CalibrationWindows(const Tokenizer& tokenizer,
                                                         std::string_view text,
                                                         const CalibrationOptions& options);

}  // namespace comet
