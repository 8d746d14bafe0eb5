#include "engine/chat_template/string_literal.h"

#include <charconv>

#include "engine/tokenizer/utf8.h"

namespace comet::jinja {
namespace {

// The character of "\n" and its like; -1 for none.
int SimpleEscape(char c) {
  switch (c) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    case 'a': return '\a';
    case 'b': return '\b';
    case 'f': return '\f';
    case 'v': return '\v';
    case '\\':
    case '\'':
    case '"': return c;
    default: return -1;
  }
}

size_t NumHexDigits(char c) {
  switch (c) {
    case 'x': return 2;
    case 'u': return 4;
    case 'U': return 8;
    default: return 0;
  }
}

// A code point of exactly these digits; surrogates have no UTF-8.
Status AppendCodePoint(std::string_view digits, size_t num_digits, int base, std::string& out) {
  uint32_t code_point = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), code_point, base);
  const bool is_read =
      error == std::errc() && digits.size() == num_digits && end == digits.data() + digits.size();
  if (!is_read || code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) {
    return InvalidArgument("the string has an escape that is no character");
  }
  AppendUtf8(code_point, out);
  return Status::Ok();
}

}  // namespace

Result<std::string> Unescape(std::string_view literal) {
  std::string out;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      out.push_back(literal[i]);
      continue;
    }
    const char c = literal[++i];
    if (c == '\n') continue;  // A line continued.
    if (const int simple = SimpleEscape(c); simple >= 0) {
      out.push_back(static_cast<char>(simple));
    } else if (const size_t num_hex = NumHexDigits(c); num_hex > 0) {
      COMET_RETURN_IF_ERROR(AppendCodePoint(literal.substr(i + 1, num_hex), num_hex, 16, out));
      i += num_hex;
    } else if (c >= '0' && c <= '7') {
      size_t num_octal = 1;
      while (num_octal < 3 && i + num_octal < literal.size() && literal[i + num_octal] >= '0' &&
             literal[i + num_octal] <= '7') {
        ++num_octal;
      }
      COMET_RETURN_IF_ERROR(AppendCodePoint(literal.substr(i, num_octal), num_octal, 8, out));
      i += num_octal - 1;
    } else {
      out.push_back('\\');
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace comet::jinja
