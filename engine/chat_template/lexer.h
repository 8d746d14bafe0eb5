#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace comet::jinja {

// Where something stands in the source; both count from 1, columns in characters.
struct Position {
  int line = 1;
  int column = 1;
};

enum class TokenKind {
  kText,         // What is printed as it stands.
  kOutputBegin,  // {{
  kOutputEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  Position position;
  std::string text;  // Of a string: its value.
  int64_t integer = 0;
  double real = 0;
};

// Cuts a template into tokens; the last is kEnd. White space around tags is gone as trim_blocks,
// lstrip_blocks, `-` and `+` say, comments and raw tags with it. Errors: kInvalidArgument with line
// and column.
Result<std::vector<Token>> Tokenize(std::string_view source);

// `message` at a place of the template.
Status SyntaxError(Position position, std::string_view message);

}  // namespace comet::jinja
