#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"

namespace comet {

struct CalibrationOptions {
  int window_tokens = 512;         // Tokens run through the model together, from position 0.
  int tokens_max = 24576;          // Of the windows that statistics are taken of.
  int tuning_tokens_max = 38912;   // Of those behind them; a longer text is cut.
  int held_out_tokens_max = 2048;  // Of the text's end, kept from calibration.
};

// A calibration text in parts that share no token.
struct CalibrationText {
  std::vector<std::vector<int>> windows;   // What statistics are taken of, and tuning sees.
  std::vector<std::vector<int>> tuning;    // What tuning alone sees; none of a short text.
  std::vector<std::vector<int>> held_out;  // What is measured with, at least 2 tokens a window.
};

// What calibrates when no text is given: prose, dialogue, figures, code and other languages,
// written for this project.
std::string_view DefaultCalibrationText();

// The text as windows of token ids: all of window_tokens but the last, which holds the rest when
// that is at least a quarter of a window or the only one. Errors: kInvalidArgument when the text
// gives no token; the tokenizer's own.
Result<std::vector<std::vector<int>>> CalibrationWindows(const Tokenizer& tokenizer,
                                                         std::string_view text,
                                                         const CalibrationOptions& options);

// Keeps the last eighth of the text's tokens, at most held_out_tokens_max, from the windows.
// Errors: kInvalidArgument when the text gives fewer than 32 tokens; the tokenizer's own.
Result<CalibrationText> SplitCalibrationText(const Tokenizer& tokenizer, std::string_view text,
                                             const CalibrationOptions& options);

}  // namespace comet
