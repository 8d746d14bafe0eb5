#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace comet::jinja {

// Text by code points, as Python sees strings. A byte that is not UTF-8 counts as a code point.

int64_t NumCodePoints(std::string_view text);

// The byte at which the code point of this index begins; text.size() at the end.
size_t ByteOffset(std::string_view text, int64_t code_point_idx);

// Bytes of the code point that begins at text[pos].
size_t CodePointBytes(std::string_view text, size_t pos);

// Python's str.isspace() for one code point.
bool IsSpace(uint32_t code_point);

// Without the characters of `chars` at its ends; without white space when chars is null.
enum class Ends { kLeft, kRight, kBoth };
std::string_view Strip(std::string_view text, Ends ends, const std::string_view* chars = nullptr);

// Simple case mappings of all of Unicode: "\u00DF" stays as it is.
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string Capitalize(std::string_view text);
// The first letter of every run of letters, as str.title().
std::string ToTitle(std::string_view text);

bool IsUpper(std::string_view text);
bool IsLower(std::string_view text);
bool IsAlpha(std::string_view text);
bool IsDigit(std::string_view text);
bool IsAlphanumeric(std::string_view text);

// Where `needle` begins at or after `from`; npos when nowhere. Linear, unlike std::string::find.
size_t Find(std::string_view text, std::string_view needle, size_t from = 0);
size_t FindLast(std::string_view text, std::string_view needle);

}  // namespace comet::jinja
