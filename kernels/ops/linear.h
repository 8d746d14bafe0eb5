#pragma once

#include <memory>

#include "kernels/base/status.h"
#include "kernels/base/tensor_view.h"
#include "kernels/ops/linear_input.h"

namespace comet {

// Weights of one linear layer as the checkpoint holds them, in host memory. N output channels, K
// input channels in permuted order (see ActivationFormat); B = CeilDiv(K, 128) blocks.
struct W4axWeights {
  ConstTensorView codes;  // [N, K / 2] u8: v in -8..7, two's complement; even channel in bits 0-3
  ConstTensorView steps;  // [N, B] i8: gamma in -15..16
  ConstTensorView scale;  // [N] f32: S > 0
  int num_int4_channels = 0;
};

// INT8 rows: w[n, k] = scale[n] * codes[n, k]. The LM head, and the embedding tied to it.
struct Int8Weights {
  ConstTensorView codes;  // [N, K] i8, -127..127
  ConstTensorView scale;  // [N] f32
};

// Unquantised rows, [N, K] f32, f16 or bf16.
struct FloatWeights {
  ConstTensorView values;
};

enum class WeightKind { kW4ax, kInt8, kFloat };

// One layer's weights in a back end's own layout, made once at load by Ops::PackLinear(). Opaque:
// only the back end that made it can read it. Immutable.
class PackedLinear {
 public:
  virtual ~PackedLinear() = default;
  virtual WeightKind kind() const = 0;
  virtual int num_outputs() const = 0;        // N
  virtual int num_inputs() const = 0;         // K
  virtual int num_int4_channels() const = 0;  // 0 unless kW4ax
  virtual int64_t num_bytes() const = 0;      // Device memory held.
};

// y = x * W^T + bias + residual
//
// Integer inputs, W4ax weights (w8[n, k] = gamma[n, block(k)] * v[n, k]):
//   A[t, n] = (sum over the INT8 region of w8 * code) * 2^e[t]
//             + sum over the INT4 region of w8 * code            exact integers
//   y[t, n] = float(A) * (S[n] * s[t])                           single IEEE operations
// Integer inputs, INT8 weights: the same with w8 = codes, S = scale and no INT4 region.
// Float input, float weights: fp32 products and sums in the fixed order
//   16 partial sums, p[j] over k = j mod 16 ascending, each fma(x, w, p); then
//   p[j] += p[j + 8], + 4, + 2, + 1; so a row's result does not depend on num_tokens. A K that is
//   no multiple of 16 is continued with zeros, which are multiplied and added like the rest.
// Then bias is added, then residual, both in fp32, and one rounding gives y.
//
// Shapes    x [num_tokens, K]; weights [N, K]; y, residual [num_tokens, N], rows may be strided;
//           bias [N] f32.
// DTypes    y and residual f32 or f16, the same; float x f32 or f16.
// Aliasing  y may be exactly residual; no other overlap.
// Errors    kInvalidArgument: a shape, dtype or the pairing of input and weights is not as above.
//           kUnimplemented (cuda): rows of x.codes are not at multiples of 16 bytes.
// Source    QServe (arXiv:2405.04532) and COMET (arXiv:2410.12168) for the two-level weights.
struct LinearArgs {
  TensorView y;
  LinearInput x;
  const PackedLinear* weights = nullptr;
  ConstTensorView bias{};      // Optional.
  ConstTensorView residual{};  // Optional.
};

Status Validate(const LinearArgs& args);
// Checks shapes, dtypes, that gamma is within -15..16 (a product beyond -128..127 would carry into
// the neighbouring byte of the register conversion) and that scales are finite.
Status Validate(const W4axWeights& weights);
Status Validate(const Int8Weights& weights);
Status Validate(const FloatWeights& weights);

}  // namespace comet
