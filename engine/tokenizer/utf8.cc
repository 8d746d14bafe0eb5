#include "engine/tokenizer/utf8.h"

namespace comet {
namespace {

struct LeadByte {
  int num_bytes;       // 0: cannot begin a character.
  uint8_t second_min;  // The second byte's range excludes overlong forms, surrogates and
  uint8_t second_max;  // values above U+10FFFF.
};

LeadByte Classify(uint8_t lead) {
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Char ReadUtf8Char(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return {byte(0), 1, Utf8State::kValid};
  const LeadByte lead = Classify(byte(0));
  if (lead.num_bytes == 0) return {0xFFFD, 1, Utf8State::kInvalid};

  // The lead byte of an n-byte character carries 7 - n bits.
  uint32_t code_point = byte(0) & (0x7Fu >> lead.num_bytes);
  for (int i = 1; i < lead.num_bytes; ++i) {
    if (i >= static_cast<int>(text.size())) return {0xFFFD, i, Utf8State::kTruncated};
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte(i) < min || byte(i) > max) return {0xFFFD, i, Utf8State::kInvalid};
    code_point = code_point << 6 | (byte(i) & 0x3Fu);
  }
  return {code_point, lead.num_bytes, Utf8State::kValid};
}

void AppendUtf8(uint32_t code_point, std::string& out) {
  const auto append = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    append(code_point);
  } else if (code_point < 0x800) {
    append(0xC0 | code_point >> 6);
    append(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    append(0xE0 | code_point >> 12);
    append(0x80 | (code_point >> 6 & 0x3F));
    append(0x80 | (code_point & 0x3F));
  } else {
    append(0xF0 | code_point >> 18);
    append(0x80 | (code_point >> 12 & 0x3F));
    append(0x80 | (code_point >> 6 & 0x3F));
    append(0x80 | (code_point & 0x3F));
  }
}

}  // namespace comet
