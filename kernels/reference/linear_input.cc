#include "kernels/reference/linear_input.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/base/exact_math.h"
#include "kernels/reference/elements.h"

namespace comet::reference {
namespace {

constexpr float kScaleMin = 0x1p-100f;

struct RowScale {
  float scale = 1.0f;
  int exponent = 0;
};

float AbsMax(std::span<const float> x) {
  float abs_max = 0.0f;
  for (const float value : x) abs_max = std::max(abs_max, std::fabs(value));
  return abs_max;
}

float Int4Limit(ActivationMode mode) { return mode == ActivationMode::kMixed ? 7.0f : 127.0f; }

RowScale ChooseScale(const ActivationFormat& format, float abs_max_int4, float abs_max_int8) {
  const float clip = format.mode == ActivationMode::kMixed ? format.clip : 1.0f;
  RowScale row;
  if (abs_max_int4 > 0.0f) {
    row.scale = std::max((clip * abs_max_int4) / Int4Limit(format.mode), kScaleMin);
  } else if (abs_max_int8 > 0.0f) {
    row.scale = std::max(abs_max_int8 / 127.0f, kScaleMin);
  }
  const auto spans_int8 = [&] {
    return abs_max_int8 <= 127.0f * (row.scale * std::ldexp(1.0f, row.exponent));
  };
  while (row.exponent < format.exponent_max && !spans_int8()) ++row.exponent;
  if (!spans_int8()) row.scale = (abs_max_int8 / 127.0f) * std::ldexp(1.0f, -row.exponent);
  return row;
}

int QuantizeValue(float x, float inverse_scale, float limit) {
  return static_cast<int>(std::clamp(RoundHalfEven(x * inverse_scale), -limit, limit));
}

}  // namespace

void WriteLinearInput(std::span<const float> x, int token_idx, const LinearInput& out) {
  const int num_channels = static_cast<int>(x.size());
  const ActivationFormat& format = out.format;
  if (format.mode == ActivationMode::kFloat) {
    for (int k = 0; k < num_channels; ++k) {
      StoreFloat(out.values, token_idx, k, x[static_cast<size_t>(k)]);
    }
    return;
  }

  const size_t num_int4 = static_cast<size_t>(format.num_int4_channels);
  const bool is_finite = std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); });
  RowScale row;
  if (is_finite) row = ChooseScale(format, AbsMax(x.first(num_int4)), AbsMax(x.subspan(num_int4)));

  const float inverse_int4 = 1.0f / row.scale;
  const float inverse_int8 = 1.0f / (row.scale * std::ldexp(1.0f, row.exponent));
  int8_t* codes = out.codes.as<int8_t>() + token_idx * out.codes.stride(0);
  int32_t sum_int8 = 0;
  int32_t sum_int4 = 0;
  for (int k = 0; k < num_channels; ++k) {
    const bool is_int4 = k < format.num_int4_channels;
    const float value = is_finite ? x[static_cast<size_t>(k)] : 0.0f;
    const int code = is_int4 ? QuantizeValue(value, inverse_int4, Int4Limit(format.mode))
                             : QuantizeValue(value, inverse_int8, 127.0f);
    if (is_int4 && format.packs_int4) {
      const PackedInt4 place = PackedInt4Of(k);
      int8_t& byte = codes[place.byte];
      // The low nibble comes first and clears the byte.
      byte = static_cast<int8_t>(place.shift == 0 ? code & 0xf : byte | code << 4);
    } else {
      codes[k] = static_cast<int8_t>(code);
    }
    (is_int4 ? sum_int4 : sum_int8) += code;
  }
  out.scale.as<float>()[token_idx] =
      is_finite ? row.scale : std::numeric_limits<float>::quiet_NaN();
  out.exponent.as<int32_t>()[token_idx] = row.exponent;
  int32_t* const code_sum = out.code_sum.as<int32_t>() + 2 * int64_t{token_idx};
  code_sum[0] = sum_int8;
  code_sum[1] = sum_int4;
}

}  // namespace comet::reference
