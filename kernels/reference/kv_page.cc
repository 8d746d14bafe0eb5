#include "kernels/reference/kv_page.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/base/exact_math.h"
#include "kernels/base/math.h"

namespace comet::reference {
namespace {

constexpr int kScaleBytes = 4;  // fp16 s and m.

bool HasCodes(int bits) { return bits <= 8; }

int64_t RowBytes(int bits, int head_dim) {
  return CeilDiv(head_dim * bits, 8) + (HasCodes(bits) ? kScaleBytes : 0);
}

uint8_t* RowAt(const KvCacheView& cache, const KvRow& row) {
  const int64_t k_row_bytes = RowBytes(cache.format.k_bits, cache.head_dim);
  const int64_t v_row_bytes = RowBytes(cache.format.v_bits, cache.head_dim);
  uint8_t* page = cache.pages.as<uint8_t>() + row.page_id * cache.pages.stride(0);
  uint8_t* head = page + row.kv_head_idx * kPageTokens * (k_row_bytes + v_row_bytes);
  if (row.side == KvSide::kKey) return head + row.token_idx * k_row_bytes;
  return head + kPageTokens * k_row_bytes + row.token_idx * v_row_bytes;
}

int BitsOf(const KvCacheView& cache, KvSide side) {
  return side == KvSide::kKey ? cache.format.k_bits : cache.format.v_bits;
}

template <typename T>
void StoreAt(uint8_t* row, int i, T value) {
  std::memcpy(row + i * static_cast<int>(sizeof(T)), &value, sizeof(T));
}

template <typename T>
T LoadAt(const uint8_t* row, int i) {
  T value;
  std::memcpy(&value, row + i * static_cast<int>(sizeof(T)), sizeof(T));
  return value;
}

struct RowScale {
  Half scale;
  Half minimum;
};

RowScale ChooseScale(std::span<const float> x, float levels) {
  const float low = *std::min_element(x.begin(), x.end());
  const float high = *std::max_element(x.begin(), x.end());
  const RowScale row{HalfFromFloat((high - low) / levels), HalfFromFloat(low)};
  const bool is_finite = std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); });
  if (is_finite && std::isfinite(ToFloat(row.scale)) && std::isfinite(ToFloat(row.minimum))) {
    return row;
  }
  const Half nan = HalfFromFloat(std::numeric_limits<float>::quiet_NaN());
  return {nan, nan};
}

void WriteCodes(uint8_t* row, int bits, std::span<const float> x) {
  const int head_dim = static_cast<int>(x.size());
  const float levels = static_cast<float>((1 << bits) - 1);
  const RowScale row_scale = ChooseScale(x, levels);
  const float scale = ToFloat(row_scale.scale);
  const float minimum = ToFloat(row_scale.minimum);
  uint8_t* scale_bytes = row + head_dim * bits / 8;
  std::memset(row, 0, static_cast<size_t>(scale_bytes - row));
  for (int d = 0; d < head_dim && scale > 0.0f; ++d) {
    const float quotient = (x[static_cast<size_t>(d)] - minimum) / scale;
    const int code = static_cast<int>(std::clamp(RoundHalfEven(quotient), 0.0f, levels));
    if (bits == 8) row[d] = static_cast<uint8_t>(code);
    if (bits == 4) row[d / 2] = static_cast<uint8_t>(row[d / 2] | (code << (4 * (d % 2))));
  }
  StoreAt(scale_bytes, 0, row_scale.scale);
  StoreAt(scale_bytes, 1, row_scale.minimum);
}

void ReadCodes(const uint8_t* row, int bits, std::span<float> x) {
  const int head_dim = static_cast<int>(x.size());
  const uint8_t* scale_bytes = row + head_dim * bits / 8;
  const float scale = ToFloat(LoadAt<Half>(scale_bytes, 0));
  const float minimum = ToFloat(LoadAt<Half>(scale_bytes, 1));
  for (int d = 0; d < head_dim; ++d) {
    const int code = bits == 8 ? row[d] : (row[d / 2] >> (4 * (d % 2))) & 0xf;
    x[static_cast<size_t>(d)] = (scale * static_cast<float>(code)) + minimum;
  }
}

}  // namespace

int64_t PageBytes(const KvFormat& format, int num_kv_heads, int head_dim) {
  const int64_t bytes = int64_t{num_kv_heads} * kPageTokens *
                        (RowBytes(format.k_bits, head_dim) + RowBytes(format.v_bits, head_dim));
  return AlignUp<int64_t>(bytes, kPageAlignment);
}

void WriteKvRow(const KvCacheView& cache, const KvRow& row, std::span<const float> x) {
  uint8_t* bytes = RowAt(cache, row);
  const int bits = BitsOf(cache, row.side);
  if (HasCodes(bits)) return WriteCodes(bytes, bits, x);
  for (int d = 0; d < cache.head_dim; ++d) {
    const float value = x[static_cast<size_t>(d)];
    if (bits == 16) StoreAt(bytes, d, HalfFromFloat(value));
    if (bits == 32) StoreAt(bytes, d, value);
  }
}

void ReadKvRow(const KvCacheView& cache, const KvRow& row, std::span<float> x) {
  const uint8_t* bytes = RowAt(cache, row);
  const int bits = BitsOf(cache, row.side);
  if (HasCodes(bits)) return ReadCodes(bytes, bits, x);
  for (int d = 0; d < cache.head_dim; ++d) {
    x[static_cast<size_t>(d)] =
        bits == 16 ? ToFloat(LoadAt<Half>(bytes, d)) : LoadAt<float>(bytes, d);
  }
}

}  // namespace comet::reference
