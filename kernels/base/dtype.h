#pragma once

#include <cstdint>
#include <string_view>

namespace comet {

enum class DType { kF32, kF16, kBf16, kI32, kI8, kU8 };

constexpr int BytesOf(DType dtype) {
  switch (dtype) {
    case DType::kF32: return 4;
    case DType::kF16: return 2;
    case DType::kBf16: return 2;
    case DType::kI32: return 4;
    case DType::kI8: return 1;
    case DType::kU8: return 1;
  }
  return 0;
}

constexpr std::string_view ToString(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kF16: return "f16";
    case DType::kBf16: return "bf16";
    case DType::kI32: return "i32";
    case DType::kI8: return "i8";
    case DType::kU8: return "u8";
  }
  return "?";
}

// IEEE binary16 held as its bits, so that host code needs no compiler extension.
struct Half {
  uint16_t bits = 0;
  friend bool operator==(Half, Half) = default;
};

// bfloat16: the upper half of a binary32.
struct Bfloat16 {
  uint16_t bits = 0;
  friend bool operator==(Bfloat16, Bfloat16) = default;
};

float ToFloat(Half value);
float ToFloat(Bfloat16 value);
constexpr float ToFloat(float value) { return value; }

// Round to nearest, ties to even; overflow gives infinity.
Half HalfFromFloat(float value);
Bfloat16 Bfloat16FromFloat(float value);

}  // namespace comet
