#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/base/exact_math.h"
#include "kernels/cpu/kernel_table.h"

namespace comet::cpu {

// Sixteen floats without vector instructions. The other two simd_*.h have the same operations with
// the same results, bit for bit.
struct ScalarSimd {
  struct F {
    float lane[kLanes];
  };
  static constexpr const char* kName = "scalar";
  static constexpr int kFloatTileOutputs = 1;  // Register tile of the float product ...
  static constexpr int kFloatTileTokens = 1;
  static constexpr int kKeyVectors = 1;  // ... and of attention's two.
  static constexpr int kValueVectors = 1;

  template <typename Fn>
  static F Map(const Fn& fn) {
    F out;
    for (int i = 0; i < kLanes; ++i) out.lane[i] = fn(i);
    return out;
  }

  static F Load(const float* x) {
    F out;
    std::memcpy(out.lane, x, sizeof(out.lane));
    return out;
  }
  static void Store(float* out, const F& x) { std::memcpy(out, x.lane, sizeof(x.lane)); }
  static F LoadHalf(const uint16_t* x) {
    return Map([&](int i) { return ToFloat(Half{x[i]}); });
  }
  static void StoreHalf(uint16_t* out, const F& x) {
    for (int i = 0; i < kLanes; ++i) out[i] = HalfFromFloat(x.lane[i]).bits;
  }
  static F LoadBytes(const uint8_t* x) {
    return Map([&](int i) { return static_cast<float>(x[i]); });
  }
  static F LoadLowNibbles(const uint8_t* x) {
    return Map([&](int i) { return static_cast<float>(x[i] & 0xf); });
  }
  static F LoadHighNibbles(const uint8_t* x) {
    return Map([&](int i) { return static_cast<float>(x[i] >> 4); });
  }
  // x holds integers within a signed byte.
  static void StoreInt8(int8_t* out, const F& x) {
    for (int i = 0; i < kLanes; ++i) out[i] = static_cast<int8_t>(x.lane[i]);
  }

  static F Set(float x) {
    return Map([&](int) { return x; });
  }
  static F Add(const F& a, const F& b) {
    return Map([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F Sub(const F& a, const F& b) {
    return Map([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F Mul(const F& a, const F& b) {
    return Map([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F Div(const F& a, const F& b) {
    return Map([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static F Fma(const F& a, const F& b, const F& c) {
    return Map([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  // b where either is NaN.
  static F Max(const F& a, const F& b) {
    return Map([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F Min(const F& a, const F& b) {
    return Map([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // The larger of acc's bits and |x|'s, as integers: NaN above infinity above every number.
  static F MaxMagnitude(const F& acc, const F& x) {
    return Map([&](int i) {
      const float magnitude = std::fabs(x.lane[i]);
      return Bits(acc.lane[i]) > Bits(magnitude) ? acc.lane[i] : magnitude;
    });
  }
  // x * 2^n for integers n in -126..127.
  static F ScaleByPowerOfTwo(const F& x, const F& n) {
    return Map([&](int i) {
      const int32_t exponent = n.lane[i] == n.lane[i] ? static_cast<int32_t>(n.lane[i]) : 0;
      return x.lane[i] * FromBits(static_cast<uint32_t>(exponent + 127) << 23);
    });
  }
  // Lanes below `count` from a, the others from b.
  static F SelectFirst(int count, const F& a, const F& b) {
    return Map([&](int i) { return i < count ? a.lane[i] : b.lane[i]; });
  }
  // [a0 + a1, a2 + a3, ..., b14 + b15]
  static F AddPairs(const F& a, const F& b) {
    return Map([&](int i) {
      const F& source = i < kLanes / 2 ? a : b;
      const int first = 2 * (i % (kLanes / 2));
      return source.lane[first] + source.lane[first + 1];
    });
  }
  // Lane j + lane j + 8, then + 4, + 2, + 1.
  static float SumHalves(F x) {
    for (int count = kLanes / 2; count >= 1; count /= 2) {
      for (int i = 0; i < count; ++i) x.lane[i] += x.lane[i + count];
    }
    return x.lane[0];
  }
  // SumHalves() of each.
  static void StoreSums(const F (&x)[kFloatTileOutputs], float* out) {
    for (int n = 0; n < kFloatTileOutputs; ++n) out[n] = SumHalves(x[n]);
  }
  static float MaxLane(const F& x) {
    float max = x.lane[0];
    for (int i = 1; i < kLanes; ++i) max = x.lane[i] > max ? x.lane[i] : max;
    return max;
  }
  static uint32_t MaxLaneBits(const F& x) {
    uint32_t max = 0;
    for (int i = 0; i < kLanes; ++i) max = Bits(x.lane[i]) > max ? Bits(x.lane[i]) : max;
    return max;
  }

  static uint32_t Bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
  }
  static float FromBits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
  }
};

}  // namespace comet::cpu
