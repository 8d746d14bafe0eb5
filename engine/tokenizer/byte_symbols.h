#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace comet {

// GPT-2 writes each byte of a token as one printable character: printable Latin-1 bytes stand for
// themselves, the other 68 for U+0100 onwards in byte order. Source: encoder.py of GPT-2.

// The UTF-8 form of a byte's symbol: "a" for 0x61, "\u0120" for a space.
std::string ByteSymbol(uint8_t byte);

// The bytes that a piece of symbols stands for; nothing if a character of it is no symbol.
std::optional<std::string> BytesOfSymbols(std::string_view piece);

}  // namespace comet
