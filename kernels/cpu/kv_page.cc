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

struct CodeScale {
  float scale;
  float minimum;
  float levels;
};

uint8_t CodeOf(float x, const CodeScale& row) {
  if (!(row.scale > 0.0f)) return 0;
  const float clamped = std::clamp((x - row.minimum) / row.scale, 0.0f, row.levels);
  return static_cast<uint8_t>((clamped + exp_constants::kRoundMagic) - exp_constants::kRoundMagic);
}

// Stores s and m of a token and returns them as read back.
CodeScale StoreScale(uint8_t* scales, int token_idx, const float* x, int head_dim, int bits) {
  const float levels = static_cast<float>((1 << bits) - 1);
  const RowScale row = ChooseScale(x, head_dim, levels);
  Half* halves = reinterpret_cast<Half*>(scales);
  halves[token_idx] = row.scale;
  halves[kPageTokens + token_idx] = row.minimum;
  return {ToFloat(row.scale), ToFloat(row.minimum), levels};
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

void StoreKey(const KvHeadLayout& layout, uint8_t* head, int token_idx, const float* key) {
  const int bits = layout.k_bits;
  uint8_t* keys = head + layout.keys_offset;
  CodeScale row{};
  if (bits <= 8) {
    row = StoreScale(head + layout.key_scale_offset, token_idx, key, layout.head_dim, bits);
  }
  for (int d = 0; d < layout.head_dim; ++d) {
    uint8_t* channel = keys + d * (kPageTokens * bits / 8);
    if (bits == 4) {
      constexpr int kHalfTokens = kPageTokens / 2;
      StoreNibble(channel + token_idx % kHalfTokens, token_idx >= kHalfTokens, CodeOf(key[d], row));
    } else if (bits == 8) {
      channel[token_idx] = CodeOf(key[d], row);
    } else if (bits == 16) {
      reinterpret_cast<Half*>(channel)[token_idx] = HalfFromFloat(key[d]);
    } else {
      reinterpret_cast<float*>(channel)[token_idx] = key[d];
    }
  }
}

void StoreValue(const KvHeadLayout& layout, uint8_t* head, int token_idx, const float* value) {
  const int bits = layout.v_bits;
  const int64_t row_bytes = layout.value_width * bits / 8;
  uint8_t* out = head + layout.values_offset + token_idx * row_bytes;
  // Padding past head_dim is read into lanes nobody stores; zeros keep it repeatable.
  std::memset(out, 0, static_cast<size_t>(row_bytes));
  CodeScale row{};
  if (bits <= 8) {
    row = StoreScale(head + layout.value_scale_offset, token_idx, value, layout.head_dim, bits);
  }
  for (int d = 0; d < layout.head_dim; ++d) {
    if (bits == 4) {
      const int in_group = d % kValueWidthMultiple;
      uint8_t* byte = out + d / kValueWidthMultiple * kLanes + in_group % kLanes;
      StoreNibble(byte, in_group >= kLanes, CodeOf(value[d], row));
    } else if (bits == 8) {
      out[d] = CodeOf(value[d], row);
    } else if (bits == 16) {
      reinterpret_cast<Half*>(out)[d] = HalfFromFloat(value[d]);
    } else {
      reinterpret_cast<float*>(out)[d] = value[d];
    }
  }
}

}  // namespace comet::cpu
