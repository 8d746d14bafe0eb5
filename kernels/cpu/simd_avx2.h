#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace comet::cpu {

// Sixteen floats in two YMM registers. Operations as in simd_scalar.h.
struct Avx2Simd {
  struct F {
    __m256 low;   // Lanes 0-7
    __m256 high;  // Lanes 8-15
  };
  static constexpr const char* kName = "avx2";
  static constexpr int kFloatTileOutputs = 2;  // 12 accumulators of 16 registers.
  static constexpr int kFloatTileTokens = 3;
  static constexpr int kKeyVectors = 1;  // 8 accumulators with kRowTile rows.
  static constexpr int kValueVectors = 1;

  static F Load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
  static void Store(float* out, F x) {
    _mm256_storeu_ps(out, x.low);
    _mm256_storeu_ps(out + 8, x.high);
  }
  static F LoadHalf(const uint16_t* x) {
    return {_mm256_cvtph_ps(Load128(x)), _mm256_cvtph_ps(Load128(x + 8))};
  }
  static void StoreHalf(uint16_t* out, F x) {
    Store128(out, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
    Store128(out + 8, _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
  }
  static F LoadBytes(const uint8_t* x) { return FromBytes(Load128(x)); }
  static F LoadLowNibbles(const uint8_t* x) {
    return FromBytes(_mm_and_si128(Load128(x), _mm_set1_epi8(0xf)));
  }
  static F LoadHighNibbles(const uint8_t* x) {
    return FromBytes(_mm_and_si128(_mm_srli_epi16(Load128(x), 4), _mm_set1_epi8(0xf)));
  }
  static void StoreInt8(int8_t* out, F x) {
    const __m256i words = _mm256_permute4x64_epi64(
        _mm256_packs_epi32(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)), 0xd8);
    Store128(out,
             _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }

  static F Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static F Add(F a, F b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static F Sub(F a, F b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  static F Mul(F a, F b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static F Div(F a, F b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  static F Fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static F Max(F a, F b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  static F Min(F a, F b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
  static F MaxMagnitude(F acc, F x) {
    return {MaxMagnitude8(acc.low, x.low), MaxMagnitude8(acc.high, x.high)};
  }
  static F ScaleByPowerOfTwo(F x, F n) {
    return {ScaleByPowerOfTwo8(x.low, n.low), ScaleByPowerOfTwo8(x.high, n.high)};
  }
  static F SelectFirst(int count, F a, F b) {
    const __m256i counts = _mm256_set1_epi32(count);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i lanes_high = _mm256_add_epi32(lanes, _mm256_set1_epi32(8));
    const __m256 mask_low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(counts, lanes));
    const __m256 mask_high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(counts, lanes_high));
    return {_mm256_blendv_ps(b.low, a.low, mask_low), _mm256_blendv_ps(b.high, a.high, mask_high)};
  }
  static F AddPairs(F a, F b) { return {AddPairs8(a.low, a.high), AddPairs8(b.low, b.high)}; }
  static float SumHalves(F x) {
    const __m256 sum8 = _mm256_add_ps(x.low, x.high);
    const __m128 sum4 = _mm_add_ps(_mm256_castps256_ps128(sum8), _mm256_extractf128_ps(sum8, 1));
    const __m128 sum2 = _mm_add_ps(sum4, _mm_movehl_ps(sum4, sum4));
    return _mm_cvtss_f32(_mm_add_ss(sum2, _mm_shuffle_ps(sum2, sum2, 1)));
  }
  static void StoreSums(const F (&x)[kFloatTileOutputs], float* out) {
    for (int n = 0; n < kFloatTileOutputs; ++n) out[n] = SumHalves(x[n]);
  }
  static float MaxLane(F x) {
    const __m256 max8 = _mm256_max_ps(x.low, x.high);
    const __m128 max4 = _mm_max_ps(_mm256_castps256_ps128(max8), _mm256_extractf128_ps(max8, 1));
    const __m128 max2 = _mm_max_ps(max4, _mm_movehl_ps(max4, max4));
    return _mm_cvtss_f32(_mm_max_ss(max2, _mm_shuffle_ps(max2, max2, 1)));
  }
  static uint32_t MaxLaneBits(F x) {
    alignas(32) uint32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes),
                       _mm256_max_epi32(_mm256_castps_si256(x.low), _mm256_castps_si256(x.high)));
    uint32_t max = lanes[0];
    for (int i = 1; i < 8; ++i) max = lanes[i] > max ? lanes[i] : max;
    return max;
  }

 private:
  static __m128i Load128(const void* x) { return _mm_loadu_si128(static_cast<const __m128i*>(x)); }
  static void Store128(void* out, __m128i x) { _mm_storeu_si128(static_cast<__m128i*>(out), x); }
  static F FromBytes(__m128i x) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(x, x)))};
  }
  static __m256 MaxMagnitude8(__m256 acc, __m256 x) {
    const __m256i magnitude =
        _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(acc), magnitude));
  }
  static __m256 ScaleByPowerOfTwo8(__m256 x, __m256 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  static __m256 AddPairs8(__m256 a, __m256 b) {
    // hadd works within 128-bit halves: [a01 a23 b01 b23 | a45 a67 b45 b67].
    const __m256d sums = _mm256_castps_pd(_mm256_hadd_ps(a, b));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(sums, 0xd8));
  }
};

}  // namespace comet::cpu
