#pragma once

#include <cstdint>

namespace comet {

// SplitMix64 (Steele, Lea, Flood 2014): a hash of a counter, so any value of a stream can be had
// without the ones before it.
constexpr uint64_t MixBits(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// A seeded stream for tests, calibration and synthetic weights. Not for secrets.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(MixBits(seed)) {}

  uint64_t NextBits() { return MixBits(state_++); }
  // Uniform in [0, 1), a multiple of 2^-24.
  float NextFloat() { return static_cast<float>(NextBits() >> 40) * 0x1p-24f; }
  float NextFloat(float low, float high) { return low + (high - low) * NextFloat(); }
  // Uniform in [0, bound).
  int NextInt(int bound) {
    return static_cast<int>(
        (static_cast<unsigned __int128>(NextBits()) * static_cast<unsigned __int128>(bound)) >> 64);
  }
  // Standard normal (Box-Muller).
  float NextNormal();

 private:
  uint64_t state_;
};

}  // namespace comet
