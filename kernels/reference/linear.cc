#include "kernels/ops/linear.h"

#include <array>
#include <cmath>
#include <limits>

#include "kernels/base/math.h"
#include "kernels/reference/elements.h"
#include "kernels/reference/packed_linear.h"
#include "kernels/reference/reference_ops.h"

namespace comet {
namespace {

using reference::ReferenceLinear;

int CodeAt(const ActivationFormat& format, const int8_t* codes, int k) {
  if (!format.packs_int4 || k >= format.num_int4_channels) return codes[k];
  const PackedInt4 place = PackedInt4Of(k);
  const int nibble = codes[place.byte] >> place.shift & 0xf;
  return nibble < 8 ? nibble : nibble - 16;
}

float IntegerProduct(const LinearInput& x, const ReferenceLinear& weights, int t, int n) {
  const int8_t* codes = x.codes.as<int8_t>() + t * x.codes.stride(0);
  const int8_t* row = weights.codes.data() + int64_t{n} * weights.inputs;
  int64_t sum_int4 = 0;
  int64_t sum_int8 = 0;
  for (int k = 0; k < weights.inputs; ++k) {
    (k < weights.int4_channels ? sum_int4 : sum_int8) +=
        int64_t{row[k]} * CodeAt(x.format, codes, k);
  }
  const int exponent = reference::LoadInt(x.exponent, t);
  const int64_t sum = sum_int8 * (int64_t{1} << exponent) + sum_int4;
  COMET_CHECK(sum >= std::numeric_limits<int32_t>::min() &&
              sum <= std::numeric_limits<int32_t>::max());
  const float scale = weights.scale[static_cast<size_t>(n)] * x.scale.as<float>()[t];
  return static_cast<float>(static_cast<int32_t>(sum)) * scale;
}

float FloatProduct(const LinearInput& x, const ReferenceLinear& weights, int t, int n) {
  constexpr int kLanes = 16;
  std::array<float, kLanes> partial{};
  const float* row = weights.values.data() + int64_t{n} * weights.inputs;
  for (int k = 0; k < AlignUp(weights.inputs, kLanes); ++k) {
    const bool is_real = k < weights.inputs;
    const float x_value = is_real ? reference::LoadFloat(x.values, t, k) : 0.0f;
    const float w_value = is_real ? row[k] : 0.0f;
    float& sum = partial[static_cast<size_t>(k % kLanes)];
    sum = std::fma(x_value, w_value, sum);
  }
  for (size_t count = kLanes / 2; count >= 1; count /= 2) {
    for (size_t j = 0; j < count; ++j) partial[j] += partial[j + count];
  }
  return partial[0];
}

}  // namespace

Status ReferenceOps::Linear(const LinearArgs& args) {
  COMET_RETURN_IF_ERROR(Validate(args));
  const ReferenceLinear& weights = reference::Unpack(*args.weights);
  for (int t = 0; t < args.x.num_tokens(); ++t) {
    for (int n = 0; n < weights.outputs; ++n) {
      float y = weights.weight_kind == WeightKind::kFloat ? FloatProduct(args.x, weights, t, n)
                                                          : IntegerProduct(args.x, weights, t, n);
      if (args.bias.is_present()) y += reference::LoadFloat(args.bias, n);
      if (args.residual.is_present()) y += reference::LoadFloat(args.residual, t, n);
      reference::StoreFloat(args.y, t, n, y);
    }
  }
  return Status::Ok();
}

}  // namespace comet
