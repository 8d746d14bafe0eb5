#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace comet {

enum class Utf8State {
  kValid,
  kInvalid,    // The bytes cannot begin a character, whatever follows.
  kTruncated,  // The text ends inside a character that is well formed so far.
};

struct Utf8Char {
  uint32_t code_point;  // U+FFFD unless the state is kValid.
  int num_bytes;  // At least 1. If not valid: the longest prefix that could begin a character.
  Utf8State state;
};

// Reads the character at the start of `text`, which is not empty. Overlong forms, surrogates and
// values above U+10FFFF are invalid, as in Unicode 15, table 3-7.
Utf8Char ReadUtf8Char(std::string_view text);

void AppendUtf8(uint32_t code_point, std::string& out);

inline constexpr std::string_view kReplacementChar = "\xEF\xBF\xBD";  // U+FFFD.

}  // namespace comet
