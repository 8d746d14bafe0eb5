#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/make_kernel_table.h"
#include "kernels/cpu/simd_avx512.h"

namespace comet::cpu {
namespace {

// vpdpbusd multiplies unsigned by signed bytes: the weights' lines of kernel_table.h are its
// unsigned operand as they are, four channels of a token, broadcast, its signed one.
struct VnniIntegerGemm {
  static void W4Tile(const IntegerTile& tile) {
    ForTokens(tile, [&]<int kTokens>(int t) { W4Tokens<kTokens>(tile, t); });
  }

  static void Int8Tile(const IntegerTile& tile) {
    ForTokens(tile, [&]<int kTokens>(int t) { Int8Tokens<kTokens>(tile, t); });
  }

 private:
  static constexpr int kHalves = 2;  // Of a tile's outputs: one ZMM of 32-bit sums each.
  static constexpr int kLineBytes = 64;
  static constexpr int kTokenTile = 8;  // 16 accumulators, 4 weight and 2 code registers.

  template <typename Fn>
  static void ForTokens(const IntegerTile& tile, const Fn& fn) {
    int t = 0;
    for (; t + kTokenTile <= tile.num_tokens; t += kTokenTile)
      fn.template operator()<kTokenTile>(t);
    for (; t + 2 <= tile.num_tokens; t += 2) fn.template operator()<2>(t);
    for (; t < tile.num_tokens; ++t) fn.template operator()<1>(t);
  }

  template <int kTokens>
  static void W4Tokens(const IntegerTile& tile, int t) {
    __m512i acc[kHalves][kTokens];
    for (int h = 0; h < kHalves; ++h) {
      for (int i = 0; i < kTokens; ++i) acc[h][i] = _mm512_setzero_si512();
    }
    for (int b = tile.num_int4_blocks; b < tile.num_blocks; ++b) W4Block<kTokens>(tile, t, b, acc);
    Shift<kTokens>(tile, t, acc);
    for (int b = 0; b < tile.num_int4_blocks; ++b) W4Block<kTokens>(tile, t, b, acc);
    Write<kTokens>(tile, t, acc);
  }

  // acc += gamma * (sum of v * code over block b).
  template <int kTokens>
  static void W4Block(const IntegerTile& tile, int t, int b, __m512i (&acc)[kHalves][kTokens]) {
    // With few tokens two chains per accumulator hide the latency of vpdpbusd.
    constexpr int kChains = kTokens <= 2 ? 2 : 1;
    const __m512i nibbles = _mm512_set1_epi8(0xf);
    __m512i partial[kChains][kHalves][kTokens];
    for (int i = 0; i < kTokens; ++i) {
      const __m512i start = _mm512_set1_epi32(-8 * tile.block_sums[(t + i) * tile.num_blocks + b]);
      for (int h = 0; h < kHalves; ++h) {
        partial[0][h][i] = start;
        if constexpr (kChains == 2) partial[1][h][i] = _mm512_setzero_si512();
      }
    }
    const int begin = b * kBlockChannels;
    const int end =
        begin + kBlockChannels < tile.num_channels ? begin + kBlockChannels : tile.num_channels;
    const int8_t* codes = tile.codes + t * tile.codes_stride;
    const uint8_t* line = tile.weights + begin / kChunkChannels * (kHalves * kLineBytes);
    for (int k = begin; k < end; k += kChunkChannels, line += kHalves * kLineBytes) {
      __m512i low[kHalves];
      __m512i high[kHalves];
      for (int h = 0; h < kHalves; ++h) {
        const __m512i pairs = _mm512_loadu_si512(line + h * kLineBytes);
        low[h] = _mm512_and_si512(pairs, nibbles);
        high[h] = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), nibbles);
      }
      for (int i = 0; i < kTokens; ++i) {
        const __m512i first = BroadcastFour(codes + i * tile.codes_stride + k);
        const __m512i second = BroadcastFour(codes + i * tile.codes_stride + k + 4);
        for (int h = 0; h < kHalves; ++h) {
          partial[0][h][i] = _mm512_dpbusd_epi32(partial[0][h][i], low[h], first);
          __m512i& other = partial[kChains - 1][h][i];
          other = _mm512_dpbusd_epi32(other, high[h], second);
        }
      }
    }
    for (int h = 0; h < kHalves; ++h) {
      const int8_t* steps = tile.steps + b * kTileOutputs + h * kLanes;
      const __m512i gamma =
          _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(steps)));
      for (int i = 0; i < kTokens; ++i) {
        __m512i sum = partial[0][h][i];
        if constexpr (kChains == 2) sum = _mm512_add_epi32(sum, partial[1][h][i]);
        acc[h][i] = _mm512_add_epi32(acc[h][i], _mm512_mullo_epi32(gamma, sum));
      }
    }
  }

  template <int kTokens>
  static void Int8Tokens(const IntegerTile& tile, int t) {
    __m512i acc[kHalves][kTokens];
    for (int i = 0; i < kTokens; ++i) {
      const __m512i start = _mm512_set1_epi32(-128 * tile.block_sums[t + i]);
      for (int h = 0; h < kHalves; ++h) acc[h][i] = start;
    }
    const int8_t* codes = tile.codes + t * tile.codes_stride;
    const uint8_t* line = tile.weights;
    for (int k = 0; k < tile.num_channels; k += 4, line += kHalves * kLineBytes) {
      const __m512i first = _mm512_loadu_si512(line);
      const __m512i second = _mm512_loadu_si512(line + kLineBytes);
      for (int i = 0; i < kTokens; ++i) {
        const __m512i four = BroadcastFour(codes + i * tile.codes_stride + k);
        acc[0][i] = _mm512_dpbusd_epi32(acc[0][i], first, four);
        acc[1][i] = _mm512_dpbusd_epi32(acc[1][i], second, four);
      }
    }
    Shift<kTokens>(tile, t, acc);
    Write<kTokens>(tile, t, acc);
  }

  static __m512i BroadcastFour(const int8_t* codes) {
    int32_t four;
    std::memcpy(&four, codes, sizeof(four));
    return _mm512_set1_epi32(four);
  }

  template <int kTokens>
  static void Shift(const IntegerTile& tile, int t, __m512i (&acc)[kHalves][kTokens]) {
    for (int i = 0; i < kTokens; ++i) {
      const __m128i count = _mm_cvtsi32_si128(tile.exponent[t + i]);
      for (int h = 0; h < kHalves; ++h) acc[h][i] = _mm512_sll_epi32(acc[h][i], count);
    }
  }

  template <int kTokens>
  static void Write(const IntegerTile& tile, int t, const __m512i (&acc)[kHalves][kTokens]) {
    for (int h = 0; h < kHalves; ++h) {
      const __m512 weight_scale = _mm512_loadu_ps(tile.weight_scale + h * kLanes);
      for (int i = 0; i < kTokens; ++i) {
        const __m512 scale = _mm512_mul_ps(weight_scale, _mm512_set1_ps(tile.scale[t + i]));
        _mm512_storeu_ps(tile.out + (t + i) * kTileOutputs + h * kLanes,
                         _mm512_mul_ps(_mm512_cvtepi32_ps(acc[h][i]), scale));
      }
    }
  }
};

}  // namespace

const KernelTable& Avx512VnniKernels() {
  static constexpr KernelTable kTable = MakeKernelTable<Avx512Simd, VnniIntegerGemm>();
  return kTable;
}

}  // namespace comet::cpu
