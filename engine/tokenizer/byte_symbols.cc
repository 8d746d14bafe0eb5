#include "engine/tokenizer/byte_symbols.h"

#include <array>

#include "engine/tokenizer/utf8.h"

namespace comet {
namespace {

constexpr uint32_t kFirstShifted = 0x100;
constexpr uint32_t kNumSymbols = 0x144;  // 256 + 68.

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<uint32_t, 256> MakeCodePoints() {
  std::array<uint32_t, 256> code_points{};
  uint32_t next_shifted = kFirstShifted;
  for (int byte = 0; byte < 256; ++byte) {
    code_points[byte] = StandsForItself(byte) ? byte : next_shifted++;
  }
  return code_points;
}

constexpr std::array<uint32_t, 256> kCodePoints = MakeCodePoints();

constexpr std::array<int, kNumSymbols> MakeBytes() {
  std::array<int, kNumSymbols> bytes{};
  for (int& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kCodePoints[byte]] = byte;
  return bytes;
}

constexpr std::array<int, kNumSymbols> kBytes = MakeBytes();

}  // namespace

std::string ByteSymbol(uint8_t byte) {
  std::string symbol;
  AppendUtf8(kCodePoints[byte], symbol);
  return symbol;
}

std::optional<std::string> BytesOfSymbols(std::string_view piece) {
  std::string bytes;
  while (!piece.empty()) {
    const Utf8Char symbol = ReadUtf8Char(piece);
    if (symbol.state != Utf8State::kValid || symbol.code_point >= kNumSymbols) return std::nullopt;
    const int byte = kBytes[symbol.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    piece.remove_prefix(symbol.num_bytes);
  }
  return bytes;
}

}  // namespace comet
