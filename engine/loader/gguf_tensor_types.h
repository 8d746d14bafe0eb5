#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/base/status.h"

namespace comet {

// How GGUF stores a tensor's values, by the numbers in the file.
//   F32, F16, BF16  plain values
//   Q4_0  32 values: f16 d, 16 bytes of nibbles;         x = d * (q - 8)
//   Q4_1  32 values: f16 d, f16 m, 16 bytes of nibbles;  x = d * q + m
//   Q8_0  32 values: f16 d, 32 signed bytes;             x = d * q
// Value i < 16 of a 4-bit block is the low nibble of byte i, value i + 16 its high nibble.
enum class GgufTensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  kBf16 = 30,
};

// Errors: kUnimplemented naming the type ("Q4_K", or its number).
Result<GgufTensorType> GgufTensorTypeFromNumber(uint32_t number);
std::string ToString(GgufTensorType type);

// A row is a whole number of groups of this many values, each held in this many bytes.
int GroupValues(GgufTensorType type);
int GroupBytes(GgufTensorType type);

// Values of whole groups, in fp32 single IEEE operations. `data` holds exactly what `out` needs.
void Dequantize(GgufTensorType type, std::span<const std::byte> data, std::span<float> out);

}  // namespace comet
