#include "kernels/cpu/kv_page.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/base/dtype.h"
#include "kernels/base/exact_math.h"
#include "kernels/base/math.h"

namespace comet::cpu {
namespace {

constexpr int64_t kPartAlignment = 64;
constexpr int64_t kScaleBytes = 2 * kPageTokens * sizeof(Half);

int64_t PartBytes(int64_t num_values, int bits) {
  return AlignUp<int64_t>(num_values * bits / 8, kPartAlignment);
}

struct RowScale {
  Half scale;
  Half minimum;
};

// NaN for a row whose numbers the format cannot hold; see kernels/ops/kv_cache_view.h.
RowScale ChooseScale(const float* x, int head_dim, float levels) {
  float low = x[0];
  float high = x[0];
  float poison = 0.0f;  // Stays 0 while every value is finite.
  for (int d = 0; d < head_dim; ++d) {
    low = std::min(low, x[d]);
    high = std::max(high, x[d]);
    poison += x[d] * 0.0f;
  }
  const RowScale row{HalfFromFloat((high - low) / levels), HalfFromFloat(low)};
  if (poison == 0.0f && std::isfinite(ToFloat(row.scale)) && std::isfinite(ToFloat(row.minimum))) {
    return row;
  }
  const Half nan = HalfFromFloat(std::numeric_limits<float>::quiet_NaN());
  return {nan, nan};
}

// Stores s and m of a token and writes its codes, one a byte. A loop without branches: the compiler
// makes vectors of it.
void Quantize(const float* x, int head_dim, int bits, int token_idx, uint8_t* scales,
              uint8_t* codes) {
  constexpr float kMagic = exp_constants::kRoundMagic;
  const float levels = static_cast<float>((1 << bits) - 1);
  const RowScale row = ChooseScale(x, head_dim, levels);
  Half* halves = reinterpret_cast<Half*>(scales);
  halves[token_idx] = row.scale;
  halves[kPageTokens + token_idx] = row.minimum;
  const float scale = ToFloat(row.scale);
  const float minimum = ToFloat(row.minimum);
  if (!(scale > 0.0f)) {
    std::memset(codes, 0, static_cast<size_t>(head_dim));
    return;
  }
  for (int d = 0; d < head_dim; ++d) {
    const float quotient = (x[d] - minimum) / scale;
    const float above = quotient > 0.0f ? quotient : 0.0f;
    const float clamped = above < levels ? above : levels;
    codes[d] = static_cast<uint8_t>(static_cast<int32_t>((clamped + kMagic) - kMagic));
  }
}

void StoreNibble(uint8_t* byte, bool is_high, uint8_t code) {
  *byte = is_high ? static_cast<uint8_t>((*byte & 0x0f) | (code << 4))
                  : static_cast<uint8_t>((*byte & 0xf0) | code);
}

}  // namespace

KvHeadLayout MakeKvHeadLayout(const KvFormat& format, int head_dim) {
  KvHeadLayout layout{};
  layout.k_bits = format.k_bits;
  layout.v_bits = format.v_bits;
  layout.head_dim = head_dim;
  layout.value_width = AlignUp(head_dim, kValueWidthMultiple);
  layout.keys_offset = 0;
  layout.key_scale_offset = PartBytes(int64_t{head_dim} * kPageTokens, format.k_bits);
  layout.values_offset = layout.key_scale_offset + (format.k_bits <= 8 ? kScaleBytes : 0);
  layout.value_scale_offset =
      layout.values_offset + PartBytes(int64_t{layout.value_width} * kPageTokens, format.v_bits);
  layout.head_bytes = layout.value_scale_offset + (format.v_bits <= 8 ? kScaleBytes : 0);
  return layout;
}

void StoreKey(const KvHeadLayout& layout, uint8_t* head, int token_idx, const float* key,
              uint8_t* codes) {
  constexpr int kHalfTokens = kPageTokens / 2;
  const int bits = layout.k_bits;
  const int64_t channel_bytes = kPageTokens * bits / 8;
  uint8_t* keys = head + layout.keys_offset;
  if (bits <= 8) {
    Quantize(key, layout.head_dim, bits, token_idx, head + layout.key_scale_offset, codes);
  }
  for (int d = 0; d < layout.head_dim; ++d) {
    uint8_t* channel = keys + d * channel_bytes;
    if (bits == 4) {
      StoreNibble(channel + token_idx % kHalfTokens, token_idx >= kHalfTokens, codes[d]);
    } else if (bits == 8) {
      channel[token_idx] = codes[d];
    } else if (bits == 16) {
      reinterpret_cast<Half*>(channel)[token_idx] = HalfFromFloat(key[d]);
    } else {
      reinterpret_cast<float*>(channel)[token_idx] = key[d];
    }
  }
}

void StoreValue(const KvHeadLayout& layout, uint8_t* head, int token_idx, const float* value,
                uint8_t* codes) {
  const int bits = layout.v_bits;
  const int64_t row_bytes = layout.value_width * bits / 8;
  uint8_t* out = head + layout.values_offset + token_idx * row_bytes;
  // Padding past head_dim is read into lanes nobody stores; zeros keep it repeatable.
  std::memset(out, 0, static_cast<size_t>(row_bytes));
  if (bits <= 8) {
    Quantize(value, layout.head_dim, bits, token_idx, head + layout.value_scale_offset, codes);
  }
  for (int d = 0; d < layout.head_dim; ++d) {
    if (bits == 4) {
      const int in_group = d % kValueWidthMultiple;
      uint8_t* byte = out + d / kValueWidthMultiple * kLanes + in_group % kLanes;
      StoreNibble(byte, in_group >= kLanes, codes[d]);
    } else if (bits == 8) {
      out[d] = codes[d];
    } else if (bits == 16) {
      reinterpret_cast<Half*>(out)[d] = HalfFromFloat(value[d]);
    } else {
      reinterpret_cast<float*>(out)[d] = value[d];
    }
  }
}

}  // namespace comet::cpu
