#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/base/exact_math.h"
#include "kernels/cpu/kernel_table.h"

// Row kernels, written once over the sixteen lanes of a Simd type.
namespace comet::cpu {

// Exp() of kernels/base/exact_math.h, sixteen at a time, the same bits.
template <typename Simd>
typename Simd::F ExpLanes(typename Simd::F x) {
  using F = typename Simd::F;
  using namespace exp_constants;
  // x comes second: a NaN passes.
  x = Simd::Min(Simd::Set(kArgumentMax), Simd::Max(Simd::Set(kArgumentMin), x));
  const F magic = Simd::Set(kRoundMagic);
  const F n = Simd::Sub(Simd::Add(Simd::Mul(x, Simd::Set(kLog2E)), magic), magic);
  const F r =
      Simd::Sub(Simd::Sub(x, Simd::Mul(n, Simd::Set(kLn2High))), Simd::Mul(n, Simd::Set(kLn2Low)));
  F sum = Simd::Set(kTaylor[7]);
  for (int i = 6; i >= 0; --i) sum = Simd::Add(Simd::Mul(sum, r), Simd::Set(kTaylor[i]));
  return Simd::ScaleByPowerOfTwo(sum, n);
}

template <typename Simd>
struct RowKernels {
  using F = typename Simd::F;

  static void HalfToFloat(const uint16_t* x, int count, float* out) {
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) Simd::Store(out + i, Simd::LoadHalf(x + i));
    for (; i < count; ++i) out[i] = ToFloat(Half{x[i]});
  }

  static void FloatToHalf(const float* x, int count, uint16_t* out) {
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) Simd::StoreHalf(out + i, Simd::Load(x + i));
    for (; i < count; ++i) out[i] = HalfFromFloat(x[i]).bits;
  }

  static float SumSquares(const float* x, int count) {
    alignas(64) float lanes[kSumLanes] = {};
    for (int i = 0; i < count; i += kLanes) {
      float* lane = lanes + i % kSumLanes;
      const F value = Simd::Load(x + i);
      Simd::Store(lane, Simd::Add(Simd::Load(lane), Simd::Mul(value, value)));
    }
    return SumTree(lanes);
  }

  static void ScaleRow(const float* x, float factor, const float* weight, int count, float* out) {
    const F factors = Simd::Set(factor);
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      Simd::Store(out + i,
                  Simd::Mul(Simd::Mul(Simd::Load(x + i), factors), Simd::Load(weight + i)));
    }
    for (; i < count; ++i) out[i] = (x[i] * factor) * weight[i];
  }

  static void SiluMul(const float* gate, const float* up, int count, float* out) {
    const F one = Simd::Set(1.0f);
    const F minus_one = Simd::Set(-1.0f);
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      const F g = Simd::Load(gate + i);
      const F denominator = Simd::Add(one, ExpLanes<Simd>(Simd::Mul(g, minus_one)));
      Simd::Store(out + i, Simd::Mul(Simd::Div(g, denominator), Simd::Load(up + i)));
    }
    for (; i < count; ++i) out[i] = (gate[i] / (1.0f + Exp(-gate[i]))) * up[i];
  }

  static void Quantize(const QuantizeRow& row) {
    const float abs_max_int4 = AbsMax(row.x, 0, row.num_int4_channels);
    const float abs_max_int8 = AbsMax(row.x, row.num_int4_channels, row.num_channels);
    if (!(abs_max_int4 < kInfinity && abs_max_int8 < kInfinity)) return WriteNonFinite(row);

    float scale = 1.0f;
    if (abs_max_int4 > 0.0f) {
      scale = AtLeast(kScaleMin, (row.clip * abs_max_int4) / row.int4_limit);
    } else if (abs_max_int8 > 0.0f) {
      scale = AtLeast(kScaleMin, abs_max_int8 / 127.0f);
    }
    int exponent = 0;
    float scale_int8 = scale;  // scale * 2^exponent
    while (exponent < row.exponent_max && !(abs_max_int8 <= 127.0f * scale_int8)) {
      ++exponent;
      scale_int8 = scale_int8 * 2.0f;
    }
    if (!(abs_max_int8 <= 127.0f * scale_int8)) {
      scale_int8 = abs_max_int8 / 127.0f;
      scale = scale_int8;
      for (int i = 0; i < exponent; ++i) scale = scale * 0.5f;
    }
    const float sum_int4 =
        WriteCodes(row, {0, row.num_int4_channels}, 1.0f / scale, row.int4_limit);
    const float sum_int8 =
        WriteCodes(row, {row.num_int4_channels, row.num_channels}, 1.0f / scale_int8, 127.0f);
    *row.scale = scale;
    *row.exponent = exponent;
    row.code_sum[0] = static_cast<int32_t>(sum_int8);
    row.code_sum[1] = static_cast<int32_t>(sum_int4);
  }

  static void StageCodes(const int8_t* codes, int num_channels, int padded_channels,
                         int block_channels, int8_t* out, int32_t* block_sums) {
    std::memcpy(out, codes, static_cast<size_t>(num_channels));
    std::memset(out + num_channels, 0, static_cast<size_t>(padded_channels - num_channels));
    for (int begin = 0; begin < num_channels; begin += block_channels) {
      const int end = begin + block_channels < num_channels ? begin + block_channels : num_channels;
      int32_t sum = 0;
      for (int k = begin; k < end; ++k) sum += codes[k];
      *block_sums++ = sum;
    }
  }

  static void Finish(const FinishTile& tile) {
    for (int t = 0; t < tile.num_tokens; ++t) {
      for (int n = 0; n < tile.num_outputs; n += kLanes) {
        const int count = tile.num_outputs - n < kLanes ? tile.num_outputs - n : kLanes;
        F y = Simd::Load(tile.tile + t * kTileOutputs + n);
        if (tile.bias != nullptr) y = Simd::Add(y, LoadFirst(tile.bias, n, count, false));
        if (tile.residual != nullptr) {
          const int64_t offset = t * tile.residual_stride + n;
          y = Simd::Add(y, LoadFirst(tile.residual, offset, count, tile.is_half));
        }
        StoreFirst(tile.y, t * tile.y_stride + n, count, tile.is_half, y);
      }
    }
  }

  static int CountNonFinite(const float* x, int count) {
    int num_nonfinite = 0;
    for (int i = 0; i < count; ++i) num_nonfinite += !(__builtin_fabsf(x[i]) < kInfinity);
    return num_nonfinite;
  }

  static float MaxValue(const float* x, int count) {
    float max = x[0];
    int i = 0;
    if (count >= kLanes) {
      F lanes = Simd::Load(x);
      for (i = kLanes; i + kLanes <= count; i += kLanes)
        lanes = Simd::Max(lanes, Simd::Load(x + i));
      max = Simd::MaxLane(lanes);
    }
    for (; i < count; ++i) max = x[i] > max ? x[i] : max;
    return max;
  }

  static void ExpBelow(const float* x, float max, int count, float* out) {
    const F max_lanes = Simd::Set(max);
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      Simd::Store(out + i, ExpLanes<Simd>(Simd::Sub(Simd::Load(x + i), max_lanes)));
    }
    for (; i < count; ++i) out[i] = Exp(x[i] - max);
  }

  static float SumLanes(const float* x, int count) {
    alignas(64) float lanes[kSumLanes] = {};
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      float* lane = lanes + i % kSumLanes;
      Simd::Store(lane, Simd::Add(Simd::Load(lane), Simd::Load(x + i)));
    }
    for (; i < count; ++i) lanes[i % kSumLanes] += x[i];
    return SumTree(lanes);
  }

  static void Divide(float* x, float divisor, int count) {
    const F divisors = Simd::Set(divisor);
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      Simd::Store(x + i, Simd::Div(Simd::Load(x + i), divisors));
    }
    for (; i < count; ++i) x[i] = x[i] / divisor;
  }

 private:
  static constexpr float kScaleMin = 0x1p-100f;
  static constexpr float kInfinity = __builtin_inff();

  struct Range {
    int begin;
    int end;
  };

  static float AtLeast(float low, float x) { return x < low ? low : x; }

  // SumAdjacentLanes() of kernels/base/exact_math.h.
  static float SumTree(float* lanes) {
    for (int count = kSumLanes / 2; count >= kLanes; count /= 2) {
      for (int i = 0; i < count; i += kLanes) {
        Simd::Store(lanes + i,
                    Simd::AddPairs(Simd::Load(lanes + 2 * i), Simd::Load(lanes + 2 * i + kLanes)));
      }
    }
    for (int count = kLanes / 2; count >= 1; count /= 2) {
      for (int i = 0; i < count; ++i) lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
    }
    return lanes[0];
  }

  // NaN where the range holds one. Past `end` x is 0, and `begin` is a multiple of kLanes.
  static float AbsMax(const float* x, int begin, int end) {
    F max = Simd::Set(0.0f);
    for (int k = begin; k < end; k += kLanes) max = Simd::MaxMagnitude(max, Simd::Load(x + k));
    const uint32_t bits = Simd::MaxLaneBits(max);
    float abs_max;
    std::memcpy(&abs_max, &bits, sizeof(abs_max));
    return abs_max;
  }

  // Returns the sum of the codes: below 2^24, so exact in any order.
  static float WriteCodes(const QuantizeRow& row, Range range, float inverse_scale, float limit) {
    const F factor = Simd::Set(inverse_scale);
    const F high = Simd::Set(limit);
    const F low = Simd::Set(-limit);
    const F magic = Simd::Set(exp_constants::kRoundMagic);
    F sum = Simd::Set(0.0f);
    for (int k = range.begin; k < range.end; k += kLanes) {
      const F scaled = Simd::Mul(Simd::Load(row.x + k), factor);
      // Clamping to integers first gives the same and keeps the rounding within its range.
      const F clamped = Simd::Max(low, Simd::Min(high, scaled));
      const F code = Simd::Sub(Simd::Add(clamped, magic), magic);
      sum = Simd::Add(sum, code);
      if (k + kLanes <= range.end) {
        Simd::StoreInt8(row.codes + k, code);
      } else {
        int8_t tail[kLanes];
        Simd::StoreInt8(tail, code);
        std::memcpy(row.codes + k, tail, static_cast<size_t>(range.end - k));
      }
    }
    return Simd::SumHalves(sum);
  }

  static void WriteNonFinite(const QuantizeRow& row) {
    std::memset(row.codes, 0, static_cast<size_t>(row.num_channels));
    *row.scale = __builtin_nanf("");
    *row.exponent = 0;
    row.code_sum[0] = 0;
    row.code_sum[1] = 0;
  }

  // `count` values at `offset`, zeros in the lanes past them.
  static F LoadFirst(const void* data, int64_t offset, int count, bool is_half) {
    if (is_half) {
      const uint16_t* x = static_cast<const uint16_t*>(data) + offset;
      if (count == kLanes) return Simd::LoadHalf(x);
      uint16_t padded[kLanes] = {};
      std::memcpy(padded, x, static_cast<size_t>(count) * sizeof(uint16_t));
      return Simd::LoadHalf(padded);
    }
    const float* x = static_cast<const float*>(data) + offset;
    if (count == kLanes) return Simd::Load(x);
    float padded[kLanes] = {};
    std::memcpy(padded, x, static_cast<size_t>(count) * sizeof(float));
    return Simd::Load(padded);
  }

  static void StoreFirst(void* data, int64_t offset, int count, bool is_half, F x) {
    if (is_half) {
      uint16_t* out = static_cast<uint16_t*>(data) + offset;
      if (count == kLanes) return Simd::StoreHalf(out, x);
      uint16_t padded[kLanes];
      Simd::StoreHalf(padded, x);
      std::memcpy(out, padded, static_cast<size_t>(count) * sizeof(uint16_t));
      return;
    }
    float* out = static_cast<float*>(data) + offset;
    if (count == kLanes) return Simd::Store(out, x);
    float padded[kLanes];
    Simd::Store(padded, x);
    std::memcpy(out, padded, static_cast<size_t>(count) * sizeof(float));
  }
};

}  // namespace comet::cpu
