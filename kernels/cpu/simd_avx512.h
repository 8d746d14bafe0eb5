#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace comet::cpu {

// Sixteen floats in one ZMM register. Operations as in simd_scalar.h.
struct Avx512Simd {
  using F = __m512;
  static constexpr const char* kName = "avx512vnni";
  static constexpr int kFloatTileOutputs = 4;  // 24 accumulators of 32 registers.
  static constexpr int kFloatTileTokens = 6;
  static constexpr int kKeyVectors = 4;  // 16 accumulators with kRowTile rows.
  static constexpr int kValueVectors = 4;

  static F Load(const float* x) { return _mm512_loadu_ps(x); }
  static void Store(float* out, F x) { _mm512_storeu_ps(out, x); }
  static F LoadHalf(const uint16_t* x) { return _mm512_cvtph_ps(Load256(x)); }
  static void StoreHalf(uint16_t* out, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static F LoadBytes(const uint8_t* x) { return FromBytes(Load128(x)); }
  static F LoadLowNibbles(const uint8_t* x) {
    return FromBytes(_mm_and_si128(Load128(x), _mm_set1_epi8(0xf)));
  }
  static F LoadHighNibbles(const uint8_t* x) {
    return FromBytes(_mm_and_si128(_mm_srli_epi16(Load128(x), 4), _mm_set1_epi8(0xf)));
  }
  static void StoreInt8(int8_t* out, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
  }

  static F Set(float x) { return _mm512_set1_ps(x); }
  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static F Min(F a, F b) { return _mm512_min_ps(a, b); }
  static F MaxMagnitude(F acc, F x) {
    const __m512i magnitude =
        _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(acc), magnitude));
  }
  static F ScaleByPowerOfTwo(F x, F n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)));
  }
  static F SelectFirst(int count, F a, F b) {
    const __mmask16 mask = static_cast<__mmask16>(count >= kLanes ? 0xffff : (1u << count) - 1u);
    return _mm512_mask_blend_ps(mask, b, a);
  }
  static F AddPairs(F a, F b) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_add_ps(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
  }
  static float SumHalves(F x) {
    const __m256 sum8 = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 sum4 = _mm_add_ps(_mm256_castps256_ps128(sum8), _mm256_extractf128_ps(sum8, 1));
    const __m128 sum2 = _mm_add_ps(sum4, _mm_movehl_ps(sum4, sum4));
    return _mm_cvtss_f32(_mm_add_ss(sum2, _mm_shuffle_ps(sum2, sum2, 1)));
  }
  // The four trees side by side: a third of the instructions.
  static void StoreSums(const F (&x)[kFloatTileOutputs], float* out) {
    static_assert(kFloatTileOutputs == 4);
    const F sum8_01 = AddHalves(x[0], x[1]);
    const F sum8_23 = AddHalves(x[2], x[3]);
    const F sum4 = _mm512_add_ps(_mm512_shuffle_f32x4(sum8_01, sum8_23, 0x88),
                                 _mm512_shuffle_f32x4(sum8_01, sum8_23, 0xdd));
    const F sum2 = _mm512_add_ps(sum4, _mm512_permute_ps(sum4, 0xee));
    const F sum = _mm512_add_ps(sum2, _mm512_permute_ps(sum2, 0x55));
    const __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, sum)));
  }
  static float MaxLane(F x) { return _mm512_reduce_max_ps(x); }
  static uint32_t MaxLaneBits(F x) {
    return static_cast<uint32_t>(_mm512_reduce_max_epi32(_mm512_castps_si512(x)));
  }

 private:
  static __m128i Load128(const void* x) { return _mm_loadu_si128(static_cast<const __m128i*>(x)); }
  static __m256i Load256(const void* x) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(x));
  }
  // [a0 + a8, ..., a7 + a15, b0 + b8, ..., b7 + b15]
  static F AddHalves(F a, F b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
  static F FromBytes(__m128i x) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x)); }
};

}  // namespace comet::cpu
