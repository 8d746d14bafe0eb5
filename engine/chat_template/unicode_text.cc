#include "engine/chat_template/unicode_text.h"

#include <clocale>
#include <cstring>
#include <cwctype>

#include <algorithm>
#include <utility>

#include "engine/tokenizer/utf8.h"
#include "kernels/base/check.h"

namespace comet::jinja {
namespace {

// The C library's Unicode tables; this locale is built into glibc, no file is needed.
locale_t UnicodeLocale() {
  static const locale_t locale = [] {
    const locale_t made = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    COMET_CHECK_MSG(made != nullptr, "the C library has no C.UTF-8 locale");
    return made;
  }();
  return locale;
}

uint32_t Upper(uint32_t code_point) { return towupper_l(code_point, UnicodeLocale()); }
uint32_t Lower(uint32_t code_point) { return towlower_l(code_point, UnicodeLocale()); }
bool IsLetter(uint32_t code_point) { return iswalpha_l(code_point, UnicodeLocale()) != 0; }
bool IsCased(uint32_t code_point) {
  return Upper(code_point) != code_point || Lower(code_point) != code_point;
}

// Calls on_char(code_point, bytes) for each character; code_point is U+FFFD for a broken byte.
template <typename OnChar>
void ForEachChar(std::string_view text, OnChar on_char) {
  while (!text.empty()) {
    const Utf8Char next = ReadUtf8Char(text);
    const size_t num_bytes = next.state == Utf8State::kValid ? next.num_bytes : 1;
    on_char(next.code_point, text.substr(0, num_bytes), next.state == Utf8State::kValid);
    text.remove_prefix(num_bytes);
  }
}

// Maps each whole character by map(code_point); broken bytes stay.
template <typename Map>
std::string MapChars(std::string_view text, Map map) {
  std::string mapped;
  mapped.reserve(text.size());
  ForEachChar(text, [&](uint32_t code_point, std::string_view bytes, bool is_valid) {
    const uint32_t to = is_valid ? map(code_point) : code_point;
    if (!is_valid || to == code_point) {
      mapped += bytes;
    } else {
      AppendUtf8(to, mapped);
    }
  });
  return mapped;
}

// Not empty, and every character satisfies the predicate.
template <typename Predicate>
bool All(std::string_view text, Predicate predicate) {
  bool all = !text.empty();
  ForEachChar(text, [&](uint32_t code_point, std::string_view, bool is_valid) {
    all = all && is_valid && predicate(code_point);
  });
  return all;
}

// At least one cased character, and none of the other case.
bool HasOnlyCase(std::string_view text, uint32_t (*to_case)(uint32_t)) {
  bool has_cased = false;
  bool has_other = false;
  ForEachChar(text, [&](uint32_t code_point, std::string_view, bool) {
    has_cased = has_cased || IsCased(code_point);
    has_other = has_other || (IsCased(code_point) && to_case(code_point) != code_point);
  });
  return has_cased && !has_other;
}

bool IsStripped(std::string_view character, const std::string_view* chars) {
  if (chars) return Find(*chars, character) != std::string_view::npos;
  const Utf8Char read = ReadUtf8Char(character);
  return read.state == Utf8State::kValid && IsSpace(read.code_point);
}

// The last character of a text that is not empty.
std::string_view LastChar(std::string_view text) {
  for (size_t num_bytes = 2; num_bytes <= 4 && num_bytes <= text.size(); ++num_bytes) {
    const std::string_view tail = text.substr(text.size() - num_bytes);
    const Utf8Char read = ReadUtf8Char(tail);
    if (read.state == Utf8State::kValid && read.num_bytes == static_cast<int>(num_bytes)) {
      return tail;
    }
  }
  return text.substr(text.size() - 1);
}

}  // namespace

int64_t NumCodePoints(std::string_view text) {
  int64_t count = 0;
  for (size_t pos = 0; pos < text.size(); pos += CodePointBytes(text, pos)) ++count;
  return count;
}

size_t ByteOffset(std::string_view text, int64_t code_point_idx) {
  size_t pos = 0;
  for (; code_point_idx > 0 && pos < text.size(); --code_point_idx) {
    pos += CodePointBytes(text, pos);
  }
  return pos;
}

size_t CodePointBytes(std::string_view text, size_t pos) {
  if (static_cast<uint8_t>(text[pos]) < 0x80) return 1;
  const Utf8Char read = ReadUtf8Char(text.substr(pos));
  return read.state == Utf8State::kValid ? read.num_bytes : 1;
}

bool IsSpace(uint32_t code_point) {
  return (code_point >= 0x09 && code_point <= 0x0D) || (code_point >= 0x1C && code_point <= 0x20) ||
         code_point == 0x85 || code_point == 0xA0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 ||
         code_point == 0x2029 || code_point == 0x202F || code_point == 0x205F ||
         code_point == 0x3000;
}

std::string_view Strip(std::string_view text, Ends ends, const std::string_view* chars) {
  while (ends != Ends::kRight && !text.empty()) {
    const size_t num_bytes = CodePointBytes(text, 0);
    if (!IsStripped(text.substr(0, num_bytes), chars)) break;
    text.remove_prefix(num_bytes);
  }
  while (ends != Ends::kLeft && !text.empty()) {
    const std::string_view last = LastChar(text);
    if (!IsStripped(last, chars)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::string ToUpper(std::string_view text) { return MapChars(text, Upper); }

std::string ToLower(std::string_view text) { return MapChars(text, Lower); }

std::string Capitalize(std::string_view text) {
  bool is_first = true;
  return MapChars(text, [&](uint32_t code_point) {
    return std::exchange(is_first, false) ? Upper(code_point) : Lower(code_point);
  });
}

std::string ToTitle(std::string_view text) {
  bool follows_letter = false;
  return MapChars(text, [&](uint32_t code_point) {
    const uint32_t mapped = follows_letter ? Lower(code_point) : Upper(code_point);
    follows_letter = IsCased(code_point);
    return mapped;
  });
}

bool IsUpper(std::string_view text) { return HasOnlyCase(text, Upper); }
bool IsLower(std::string_view text) { return HasOnlyCase(text, Lower); }
bool IsAlpha(std::string_view text) { return All(text, IsLetter); }
bool IsDigit(std::string_view text) {
  return All(text, [](uint32_t code_point) { return code_point >= '0' && code_point <= '9'; });
}
bool IsAlphanumeric(std::string_view text) {
  return All(text, [](uint32_t code_point) {
    return IsLetter(code_point) || (code_point >= '0' && code_point <= '9');
  });
}

size_t Find(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data())
               : std::string_view::npos;
}

size_t FindLast(std::string_view text, std::string_view needle) {
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t pos = Find(reversed_text, reversed_needle);
  return pos == std::string_view::npos ? pos : text.size() - pos - needle.size();
}

}  // namespace comet::jinja
