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
// Value i < 16 of these 4-bit groups is the low nibble of byte i, value i + 16 its high nibble.
//   Q4_K  256 values: f16 d, f16 m, 12 bytes of eight 6-bit scales s and minima t, nibbles;
//         x = (d * s) * q - m * t, s and t those of each 32 values
//   Q5_K  256 values: the same with 32 bytes of fifth bits before the nibbles
//   Q6_K  256 values: nibbles, 64 bytes of upper bit pairs, 16 signed scales s, f16 d;
//         x = (d * s) * (q - 32), s that of each 16 values
// Nibbles of these lie in runs of 32 bytes (Q6_K 64), first all low ones, then all high ones.
// Source: ggml's quants.
enum class GgufTensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBf16 = 30,
};

// Whether `type` is one of the above: a file's may be any number.
bool IsKnown(GgufTensorType type);
// Errors: kUnimplemented naming the type where it is not known.
Status CheckKnown(GgufTensorType type);
// The format's name, of some types not above too ("Q3_K"); else "type N".
std::string ToString(GgufTensorType type);

// A row is a whole number of groups of this many values, each held in this many bytes. The type is
// known, here and below.
int GroupValues(GgufTensorType type);
int GroupBytes(GgufTensorType type);

// Values of whole groups, in fp32 single IEEE operations. `data` holds exactly what `out` needs.
void Dequantize(GgufTensorType type, std::span<const std::byte> data, std::span<float> out);

}  // namespace comet
