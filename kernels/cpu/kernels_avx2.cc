#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/make_kernel_table.h"
#include "kernels/cpu/simd_avx2.h"

namespace comet::cpu {
namespace {

// vpmaddubsw multiplies unsigned by signed bytes and adds pairs into 16 bits, with saturation. A
// nibble is at most 15 and a code at most 127 in magnitude, so a pair is at most 3,810 and eight of
// them, 30,480, still fit: sums stay in 16 bits for 32 channels, then vpmaddwd widens them. INT8
// weights go as two nibbles, the upper one widened by 16.
struct Avx2IntegerGemm {
  static void W4Tile(const IntegerTile& tile) {
    ForTokens(tile, [&]<int kTokens>(int t, int n) { W4Tokens<kTokens>(tile, t, n); });
  }

  static void Int8Tile(const IntegerTile& tile) {
    ForTokens(tile, [&]<int kTokens>(int t, int n) { Int8Tokens<kTokens>(tile, t, n); });
  }

 private:
  static constexpr int kParts = 2;  // Of sixteen outputs: one YMM of 32-bit sums each.
  static constexpr int kPartOutputs = 8;
  static constexpr int kPartBytes = 32;
  static constexpr int kChunkBytes = 4 * kTileOutputs;
  static constexpr int kWidenChannels = 32;
  static constexpr int kTokenTile = 4;  // 8 accumulators, 4 weight, 1 code and 1 mask register.

  template <typename Fn>
  static void ForTokens(const IntegerTile& tile, const Fn& fn) {
    for (int n = 0; n < kTileOutputs; n += kParts * kPartOutputs) {
      int t = 0;
      for (; t + kTokenTile <= tile.num_tokens; t += kTokenTile) {
        fn.template operator()<kTokenTile>(t, n);
      }
      for (; t < tile.num_tokens; ++t) fn.template operator()<1>(t, n);
    }
  }

  template <int kTokens>
  static void W4Tokens(const IntegerTile& tile, int t, int n) {
    __m256i acc[kParts][kTokens];
    for (int p = 0; p < kParts; ++p) {
      for (int i = 0; i < kTokens; ++i) acc[p][i] = _mm256_setzero_si256();
    }
    for (int b = tile.num_int4_blocks; b < tile.num_blocks; ++b)
      W4Block<kTokens>(tile, t, n, b, acc);
    Shift<kTokens>(tile, t, acc);
    for (int b = 0; b < tile.num_int4_blocks; ++b) W4Block<kTokens>(tile, t, n, b, acc);
    Write<kTokens>(tile, t, n, acc);
  }

  // acc += gamma * (sum of v * code over block b).
  template <int kTokens>
  static void W4Block(const IntegerTile& tile, int t, int n, int b,
                      __m256i (&acc)[kParts][kTokens]) {
    __m256i partial[kParts][kTokens];
    for (int i = 0; i < kTokens; ++i) {
      const __m256i start = _mm256_set1_epi32(-8 * tile.block_sums[(t + i) * tile.num_blocks + b]);
      for (int p = 0; p < kParts; ++p) partial[p][i] = start;
    }
    const int begin = b * kBlockChannels;
    const int end = Smaller(begin + kBlockChannels, tile.num_channels);
    for (int k = begin; k < end; k += kWidenChannels) {
      W4Run<kTokens>(tile, t, n, k, Smaller(k + kWidenChannels, end), partial);
    }
    for (int p = 0; p < kParts; ++p) {
      const int8_t* steps = tile.steps + b * kTileOutputs + n + p * kPartOutputs;
      const __m256i gamma =
          _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(steps)));
      for (int i = 0; i < kTokens; ++i) {
        acc[p][i] = _mm256_add_epi32(acc[p][i], _mm256_mullo_epi32(gamma, partial[p][i]));
      }
    }
  }

  // Adds channels [begin, end), at most kWidenChannels, to the 32-bit sums.
  template <int kTokens>
  static void W4Run(const IntegerTile& tile, int t, int n, int begin, int end,
                    __m256i (&partial)[kParts][kTokens]) {
    const __m256i nibbles = _mm256_set1_epi8(0xf);
    const int8_t* codes = tile.codes + t * tile.codes_stride;
    const uint8_t* line = tile.weights + begin / kChunkChannels * kChunkBytes + 4 * n;
    __m256i words[kParts][kTokens];
    for (int p = 0; p < kParts; ++p) {
      for (int i = 0; i < kTokens; ++i) words[p][i] = _mm256_setzero_si256();
    }
    for (int k = begin; k < end; k += kChunkChannels, line += kChunkBytes) {
      __m256i low[kParts];
      __m256i high[kParts];
      for (int p = 0; p < kParts; ++p) {
        const __m256i pairs = Load(line + p * kPartBytes);
        low[p] = _mm256_and_si256(pairs, nibbles);
        high[p] = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), nibbles);
      }
      for (int i = 0; i < kTokens; ++i) {
        const __m256i first = BroadcastFour(codes + i * tile.codes_stride + k);
        const __m256i second = BroadcastFour(codes + i * tile.codes_stride + k + 4);
        for (int p = 0; p < kParts; ++p) {
          words[p][i] = _mm256_add_epi16(words[p][i], _mm256_maddubs_epi16(low[p], first));
          words[p][i] = _mm256_add_epi16(words[p][i], _mm256_maddubs_epi16(high[p], second));
        }
      }
    }
    Widen<kTokens>(words, 1, partial);
  }

  template <int kTokens>
  static void Int8Tokens(const IntegerTile& tile, int t, int n) {
    __m256i acc[kParts][kTokens];
    for (int i = 0; i < kTokens; ++i) {
      const __m256i start = _mm256_set1_epi32(-128 * tile.block_sums[t + i]);
      for (int p = 0; p < kParts; ++p) acc[p][i] = start;
    }
    for (int k = 0; k < tile.num_channels; k += kWidenChannels) {
      const int end = Smaller(k + kWidenChannels, tile.num_channels);
      Int8Run<kTokens>(tile, t, n, k, end, acc);
    }
    Shift<kTokens>(tile, t, acc);
    Write<kTokens>(tile, t, n, acc);
  }

  template <int kTokens>
  static void Int8Run(const IntegerTile& tile, int t, int n, int begin, int end,
                      __m256i (&acc)[kParts][kTokens]) {
    const __m256i nibbles = _mm256_set1_epi8(0xf);
    const int8_t* codes = tile.codes + t * tile.codes_stride;
    // One part after the other: two sets of 16-bit sums of both would not fit the registers.
    for (int p = 0; p < kParts; ++p) {
      const uint8_t* line = tile.weights + begin / 4 * kChunkBytes + 4 * n + p * kPartBytes;
      __m256i low_words[1][kTokens];
      __m256i high_words[1][kTokens];
      for (int i = 0; i < kTokens; ++i) {
        low_words[0][i] = _mm256_setzero_si256();
        high_words[0][i] = _mm256_setzero_si256();
      }
      for (int k = begin; k < end; k += 4, line += kChunkBytes) {
        const __m256i bytes = Load(line);
        const __m256i low = _mm256_and_si256(bytes, nibbles);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibbles);
        for (int i = 0; i < kTokens; ++i) {
          const __m256i four = BroadcastFour(codes + i * tile.codes_stride + k);
          low_words[0][i] = _mm256_add_epi16(low_words[0][i], _mm256_maddubs_epi16(low, four));
          high_words[0][i] = _mm256_add_epi16(high_words[0][i], _mm256_maddubs_epi16(high, four));
        }
      }
      for (int i = 0; i < kTokens; ++i) {
        acc[p][i] = AddWidened(acc[p][i], low_words[0][i], 1);
        acc[p][i] = AddWidened(acc[p][i], high_words[0][i], 16);
      }
    }
  }

  template <int kTokens>
  static void Widen(const __m256i (&words)[kParts][kTokens], int factor,
                    __m256i (&sums)[kParts][kTokens]) {
    for (int p = 0; p < kParts; ++p) {
      for (int i = 0; i < kTokens; ++i) sums[p][i] = AddWidened(sums[p][i], words[p][i], factor);
    }
  }

  static __m256i AddWidened(__m256i sum, __m256i words, int factor) {
    const __m256i factors = _mm256_set1_epi16(static_cast<int16_t>(factor));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(words, factors));
  }

  static int Smaller(int a, int b) { return a < b ? a : b; }

  static __m256i Load(const uint8_t* x) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  }

  static __m256i BroadcastFour(const int8_t* codes) {
    int32_t four;
    std::memcpy(&four, codes, sizeof(four));
    return _mm256_set1_epi32(four);
  }

  template <int kTokens>
  static void Shift(const IntegerTile& tile, int t, __m256i (&acc)[kParts][kTokens]) {
    for (int i = 0; i < kTokens; ++i) {
      const __m128i count = _mm_cvtsi32_si128(tile.exponent[t + i]);
      for (int p = 0; p < kParts; ++p) acc[p][i] = _mm256_sll_epi32(acc[p][i], count);
    }
  }

  template <int kTokens>
  static void Write(const IntegerTile& tile, int t, int n, const __m256i (&acc)[kParts][kTokens]) {
    for (int p = 0; p < kParts; ++p) {
      const int first = n + p * kPartOutputs;
      const __m256 weight_scale = _mm256_loadu_ps(tile.weight_scale + first);
      for (int i = 0; i < kTokens; ++i) {
        const __m256 scale = _mm256_mul_ps(weight_scale, _mm256_set1_ps(tile.scale[t + i]));
        _mm256_storeu_ps(tile.out + (t + i) * kTileOutputs + first,
                         _mm256_mul_ps(_mm256_cvtepi32_ps(acc[p][i]), scale));
      }
    }
  }
};

}  // namespace

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kTable = MakeKernelTable<Avx2Simd, Avx2IntegerGemm>();
  return kTable;
}

}  // namespace comet::cpu
