#include "engine/loader/gguf_tensor_types.h"

#include "engine/loader/unaligned.h"
#include "kernels/base/check.h"
#include "kernels/base/dtype.h"
#include "kernels/base/str_cat.h"

namespace comet {
namespace {

constexpr int kGroupValues = 32;
constexpr int kHalfGroup = kGroupValues / 2;
constexpr int kSuperGroupValues = 256;

float LoadHalf(const std::byte* from) { return ToFloat(Half{LoadUnaligned<uint16_t>(from)}); }

void DequantizeQ4_0(const std::byte* group, float* out) {
  const float d = LoadHalf(group);
  for (int i = 0; i < kHalfGroup; ++i) {
    const int pair = static_cast<int>(group[2 + i]);
    out[i] = d * static_cast<float>((pair & 15) - 8);
    out[i + kHalfGroup] = d * static_cast<float>((pair >> 4) - 8);
  }
}

void DequantizeQ4_1(const std::byte* group, float* out) {
  const float d = LoadHalf(group);
  const float m = LoadHalf(group + 2);
  for (int i = 0; i < kHalfGroup; ++i) {
    const int pair = static_cast<int>(group[4 + i]);
    out[i] = d * static_cast<float>(pair & 15) + m;
    out[i + kHalfGroup] = d * static_cast<float>(pair >> 4) + m;
  }
}

void DequantizeQ8_0(const std::byte* group, float* out) {
  const float d = LoadHalf(group);
  for (int i = 0; i < kGroupValues; ++i) {
    out[i] = d * static_cast<float>(LoadUnaligned<int8_t>(group + 2 + i));
  }
}

// The scale and the minimum of sub-group `j` of eight, six bits each in twelve bytes: the first
// four pairs in the low bits of bytes j and j + 4, the others in four bits of byte j + 4 each and
// the upper two bits of the first eight.
struct ScaleAndMin {
  int scale;
  int minimum;
};
ScaleAndMin ReadScaleAndMin(const std::byte* packed, int j) {
  const auto at = [&](int i) { return static_cast<int>(packed[i]); };
  if (j < 4) return {at(j) & 63, at(j + 4) & 63};
  return {(at(j + 4) & 15) | (at(j - 4) >> 6 << 4), (at(j + 4) >> 4) | (at(j) >> 6 << 4)};
}

// Q4_K, and Q5_K where `high_bits` is there.
void DequantizeFiveBits(const std::byte* group, const std::byte* high_bits,
                        const std::byte* nibbles, float* out) {
  const float d = LoadHalf(group);
  const float m = LoadHalf(group + 2);
  for (int j = 0; j < kSuperGroupValues / kGroupValues; ++j) {
    const ScaleAndMin packed = ReadScaleAndMin(group + 4, j);
    const float scale = d * static_cast<float>(packed.scale);
    const float minimum = m * static_cast<float>(packed.minimum);
    const std::byte* run = nibbles + j / 2 * kGroupValues;
    for (int i = 0; i < kGroupValues; ++i) {
      int q = static_cast<int>(run[i]) >> (j % 2 * 4) & 15;
      if (high_bits != nullptr) q |= (static_cast<int>(high_bits[i]) >> j & 1) << 4;
      *out++ = scale * static_cast<float>(q) - minimum;
    }
  }
}

void DequantizeQ4_K(const std::byte* group, float* out) {
  DequantizeFiveBits(group, nullptr, group + 16, out);
}

void DequantizeQ5_K(const std::byte* group, float* out) {
  DequantizeFiveBits(group, group + 16, group + 16 + kGroupValues, out);
}

void DequantizeQ6_K(const std::byte* group, float* out) {
  constexpr int kHalfValues = kSuperGroupValues / 2;
  const std::byte* pairs = group + kHalfValues;
  const std::byte* scales = pairs + kHalfValues / 2;
  const float d = LoadHalf(scales + 16);
  for (int i = 0; i < kSuperGroupValues; ++i) {
    const int half = i / kHalfValues;
    const int quarter = i % kHalfValues / 32;  // Of the half's 128 values.
    const int byte = half * 64 + i % 64;
    const int nibble = static_cast<int>(group[byte]) >> (quarter / 2 * 4) & 15;
    const int pair = static_cast<int>(pairs[half * 32 + i % 32]) >> (quarter * 2) & 3;
    const float scale = d * static_cast<float>(LoadUnaligned<int8_t>(scales + i / 16));
    out[i] = scale * static_cast<float>((nibble | pair << 4) - 32);
  }
}

// GGUF's other types. Source: the format's specification.
std::string OtherName(uint32_t number) {
  switch (number) {
    case 6: return "Q5_0";
    case 7: return "Q5_1";
    case 9: return "Q8_1";
    case 10: return "Q2_K";
    case 11: return "Q3_K";
    case 15: return "Q8_K";
    case 16: return "IQ2_XXS";
    case 17: return "IQ2_XS";
    case 18: return "IQ3_XXS";
    case 19: return "IQ1_S";
    case 20: return "IQ4_NL";
    case 21: return "IQ3_S";
    case 22: return "IQ2_S";
    case 23: return "IQ4_XS";
    case 29: return "IQ1_M";
    case 39: return "MXFP4";
    default: return StrCat("type ", number);
  }
}

}  // namespace

bool IsKnown(GgufTensorType type) {
  switch (type) {
    case GgufTensorType::kF32:
    case GgufTensorType::kF16:
    case GgufTensorType::kQ4_0:
    case GgufTensorType::kQ4_1:
    case GgufTensorType::kQ8_0:
    case GgufTensorType::kQ4_K:
    case GgufTensorType::kQ5_K:
    case GgufTensorType::kQ6_K:
    case GgufTensorType::kBf16: return true;
  }
  return false;
}

Status CheckKnown(GgufTensorType type) {
  if (IsKnown(type)) return Status::Ok();
  return Unimplemented(StrCat("is ", ToString(type),
                              ", expected F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q5_K or Q6_K"));
}

std::string ToString(GgufTensorType type) {
  switch (type) {
    case GgufTensorType::kF32: return "F32";
    case GgufTensorType::kF16: return "F16";
    case GgufTensorType::kQ4_0: return "Q4_0";
    case GgufTensorType::kQ4_1: return "Q4_1";
    case GgufTensorType::kQ8_0: return "Q8_0";
    case GgufTensorType::kQ4_K: return "Q4_K";
    case GgufTensorType::kQ5_K: return "Q5_K";
    case GgufTensorType::kQ6_K: return "Q6_K";
    case GgufTensorType::kBf16: return "BF16";
  }
  return OtherName(static_cast<uint32_t>(type));
}

int GroupValues(GgufTensorType type) {
  switch (type) {
    case GgufTensorType::kF32:
    case GgufTensorType::kF16:
    case GgufTensorType::kBf16: return 1;
    case GgufTensorType::kQ4_0:
    case GgufTensorType::kQ4_1:
    case GgufTensorType::kQ8_0: return kGroupValues;
    case GgufTensorType::kQ4_K:
    case GgufTensorType::kQ5_K:
    case GgufTensorType::kQ6_K: return kSuperGroupValues;
  }
  return 0;
}

int GroupBytes(GgufTensorType type) {
  switch (type) {
    case GgufTensorType::kF32: return 4;
    case GgufTensorType::kF16: return 2;
    case GgufTensorType::kBf16: return 2;
    case GgufTensorType::kQ4_0: return 2 + kHalfGroup;
    case GgufTensorType::kQ4_1: return 4 + kHalfGroup;
    case GgufTensorType::kQ8_0: return 2 + kGroupValues;
    case GgufTensorType::kQ4_K: return 4 + 12 + kSuperGroupValues / 2;
    case GgufTensorType::kQ5_K: return 4 + 12 + kSuperGroupValues * 5 / 8;
    case GgufTensorType::kQ6_K: return kSuperGroupValues * 6 / 8 + 16 + 2;
  }
  return 0;
}

void Dequantize(GgufTensorType type, std::span<const std::byte> data, std::span<float> out) {
  const size_t group_values = static_cast<size_t>(GroupValues(type));
  const size_t group_bytes = static_cast<size_t>(GroupBytes(type));
  const size_t num_groups = out.size() / group_values;
  COMET_CHECK(out.size() % group_values == 0 && data.size() == num_groups * group_bytes);
  for (size_t g = 0; g < num_groups; ++g) {
    const std::byte* group = data.data() + g * group_bytes;
    float* values = out.data() + g * group_values;
    switch (type) {
      case GgufTensorType::kF32: *values = LoadUnaligned<float>(group); break;
      case GgufTensorType::kF16: *values = LoadHalf(group); break;
      case GgufTensorType::kBf16:
        *values = ToFloat(Bfloat16{LoadUnaligned<uint16_t>(group)});
        break;
      case GgufTensorType::kQ4_0: DequantizeQ4_0(group, values); break;
      case GgufTensorType::kQ4_1: DequantizeQ4_1(group, values); break;
      case GgufTensorType::kQ8_0: DequantizeQ8_0(group, values); break;
      case GgufTensorType::kQ4_K: DequantizeQ4_K(group, values); break;
      case GgufTensorType::kQ5_K: DequantizeQ5_K(group, values); break;
      case GgufTensorType::kQ6_K: DequantizeQ6_K(group, values); break;
    }
  }
}

}  // namespace comet
