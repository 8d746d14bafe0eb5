#include "kernels/cpu/kernels.h"
#include "kernels/cpu/make_kernel_table.h"
#include "kernels/cpu/simd_scalar.h"

namespace comet::cpu {
namespace {

constexpr int kHalfOutputs = kTileOutputs / 2;

struct ScalarIntegerGemm {
  static void W4Tile(const IntegerTile& tile) {
    for (int t = 0; t < tile.num_tokens; ++t) {
      for (int n = 0; n < kTileOutputs; ++n) {
        const uint32_t int8_sum = W4Blocks(tile, t, n, tile.num_int4_blocks, tile.num_blocks);
        const uint32_t int4_sum = W4Blocks(tile, t, n, 0, tile.num_int4_blocks);
        Write(tile, t, n, (int8_sum << tile.exponent[t]) + int4_sum);
      }
    }
  }

  static void Int8Tile(const IntegerTile& tile) {
    constexpr int kChunk = 4;
    for (int t = 0; t < tile.num_tokens; ++t) {
      const int8_t* codes = tile.codes + t * tile.codes_stride;
      for (int n = 0; n < kTileOutputs; ++n) {
        uint32_t sum = static_cast<uint32_t>(-128 * tile.block_sums[t]);
        for (int k = 0; k < tile.num_channels; ++k) {
          const uint8_t* line = Line(tile.weights, k / kChunk, n);
          sum += static_cast<uint32_t>(int32_t{line[k % kChunk]} * codes[k]);
        }
        Write(tile, t, n, sum << tile.exponent[t]);
      }
    }
  }

 private:
  // The four bytes of output n in one chunk.
  static const uint8_t* Line(const uint8_t* weights, int chunk_idx, int n) {
    return weights + chunk_idx * 128 + n / kHalfOutputs * 64 + n % kHalfOutputs * 4;
  }

  // Unsigned, so that a shift and a wrapping partial sum are defined.
  static uint32_t W4Blocks(const IntegerTile& tile, int t, int n, int first_block, int last_block) {
    const int8_t* codes = tile.codes + t * tile.codes_stride;
    uint32_t sum = 0;
    for (int b = first_block; b < last_block; ++b) {
      int32_t partial = -8 * tile.block_sums[t * tile.num_blocks + b];
      const int end = (b + 1) * kBlockChannels;
      for (int k = b * kBlockChannels; k < end && k < tile.num_channels; ++k) {
        const uint8_t pair = Line(tile.weights, k / kChunkChannels, n)[k % 4];
        partial += (k % kChunkChannels < 4 ? pair & 0xf : pair >> 4) * codes[k];
      }
      sum += static_cast<uint32_t>(tile.steps[b * kTileOutputs + n] * partial);
    }
    return sum;
  }

  static void Write(const IntegerTile& tile, int t, int n, uint32_t sum) {
    const float scale = tile.weight_scale[n] * tile.scale[t];
    tile.out[t * kTileOutputs + n] = static_cast<float>(static_cast<int32_t>(sum)) * scale;
  }
};

}  // namespace

const KernelTable& ScalarKernels() {
  static constexpr KernelTable kTable = MakeKernelTable<ScalarSimd, ScalarIntegerGemm>();
  return kTable;
}

}  // namespace comet::cpu
