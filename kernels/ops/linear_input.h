#pragma once

#include <cstdint>

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"

namespace comet {

inline constexpr int kBlockChannels = 128;  // One block: the unit of precision along K.
inline constexpr int kExponentMax = 7;      // Largest e[t].

// How the activations of a linear layer are held.
enum class ActivationMode {
  kFloat,  // Unquantised: accuracy reference.
  kMixed,  // INT4 region within +-7, INT8 region within +-127.
  kInt8,   // Both regions within +-127.
};

// The numerics of one linear layer's input. Channels are in permuted order: the INT4 region first,
// [0, num_int4_channels), a whole number of blocks; then the INT8 region to K. The last block may
// be short; it is an INT8 block.
struct ActivationFormat {
  ActivationMode mode = ActivationMode::kFloat;
  int num_int4_channels = 0;  // Multiple of kBlockChannels, at most K.
  int exponent_max = 0;       // Largest e[t]: ExponentMax() of the layer.
  float clip = 1.0f;          // Alpha in (0, 1]: s = alpha * absmax / 7. Used by kMixed only.
  // kMixed only: codes of the INT4 region lie two a byte, as PackedInt4Of() says. Set it where
  // Ops::HasInt4Products().
  bool packs_int4 = false;
};

// Where a row holds the code of a channel of a packed INT4 region: in bits `shift` to `shift` + 3
// of byte `byte`, in two's complement. A block takes 64 bytes, [channel / 16 % 4][channel /
// 64][channel / 8 % 2] words of eight channels, the first four in the words' low nibbles: so 16
// bytes are what a thread of mma.m16n8k64 needs of a block. The region takes the first half of its
// bytes; the INT8 region stays where it is.
struct PackedInt4 {
  int byte;
  int shift;
};
constexpr PackedInt4 PackedInt4Of(int channel) {
  const int block = channel / kBlockChannels;
  const int word = channel / 16 % 4 * 4 + channel / 64 % 2 * 2 + channel / 8 % 2;
  return {.byte = block * (kBlockChannels / 2) + word * 4 + channel % 4,
          .shift = channel % 8 / 4 * 4};
}

// Largest e in 0..kExponentMax for which every exact sum of the layer fits 31 bits:
//   num_int8 * 127 * 128 * 2^e + num_int4 * q * 128 < 2^31, q = 7 (kMixed) or 127 (kInt8).
int ExponentMax(ActivationMode mode, int num_int4_channels, int num_int8_channels);

// What the producing ops (rms_norm, silu_mul, gather) write and `linear` reads: num_tokens rows of
// K channels. kFloat uses `values`; the other modes the four below it.
//
// Quantisation of one row x (the op's float result, in permuted order), all in fp32:
//   a4 = max |x| over the INT4 region, a8 = over the INT8 region; q = 7 (kMixed) or 127 (kInt8)
//   a4 > 0:           s = (clip * a4) / q   (clip = 1 for kInt8)
//   a4 = 0, a8 > 0:   s = a8 / 127          (also where there is no INT4 region)
//   both 0:           s = 1
//   e = smallest integer in 0..exponent_max with a8 <= 127 * s * 2^e; where there is none,
//       e = exponent_max and s = (a8 / 127) * 2^-exponent_max, computed in that order
//   code[k] = clamp(round_half_even(x[k] * r)), r = 1 / s within +-q in the INT4 region,
//             r = 1 / (s * 2^e) within +-127 in the INT8 region
//   code_sum = {sum of code[k] over the INT8 region, the same over the INT4 region}
// So no value of the INT8 region is clamped: a massive activation coarsens its token's other codes
// instead. Multiplications, divisions and roundings are single IEEE operations, none contracted. A
// s below 2^-100 is raised to it, so 1 / s stays finite. A row with a NaN or infinity has s = NaN,
// e = 0, and codes and code_sum 0. What a packed row has between its regions is not written.
struct LinearInput {
  ActivationFormat format;
  TensorView values{};    // [num_tokens, K] f16 or f32
  TensorView codes{};     // [num_tokens, K] i8
  TensorView scale{};     // [num_tokens] f32: s
  TensorView exponent{};  // [num_tokens] i32: e
  TensorView code_sum{};  // [num_tokens, 2] i32, contiguous: INT8 region, INT4 region

  int num_tokens() const {
    return format.mode == ActivationMode::kFloat ? values.dim(0) : codes.dim(0);
  }
  int num_channels() const {
    return format.mode == ActivationMode::kFloat ? values.dim(1) : codes.dim(1);
  }
};

// Checks shapes, dtypes and format. `op` names the caller in the message.
Status Validate(const char* op, const LinearInput& input);
// For kernels that take codes as bytes alone. Errors: kUnimplemented: they are packed.
Status RequireByteCodes(const char* op, const ActivationFormat& format);

}  // namespace comet
