#pragma once

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/sm90_gemm_params.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

// What the parts of the Hopper product share: its constants, shared memory, the tiles of a CTA and
// the ring of stages between producers and consumers.
namespace comet::sm90 {

constexpr int kWarpgroupThreads = 128;
constexpr int kWarpThreads = 32;
constexpr int kProducerWarps = 2;  // Of the first warpgroup: one for weights, one for tokens.
constexpr int kSmemBytesMax = 227 * 1024;  // A CTA's limit on sm_90.
// L2 holds a window of row tiles x this many tokens while the grid walks over it.
constexpr int kRasterTokens = 2048;

// Constants of the kernel of kGemmConfigs[kIdx].
template <int kIdx>
struct GemmTraits {
  static constexpr GemmConfig kConfig = kGemmConfigs[kIdx];
  static constexpr int kTileTokens = kConfig.tile_tokens;
  static constexpr int kRowGroups = kConfig.row_groups;
  static constexpr int kKGroups = kConfig.k_groups;
  static constexpr int kClusterK = kConfig.cluster_k;
  static constexpr int kGroupThreads = kKGroups * kWarpgroupThreads;
  static constexpr int kThreadTokens = CeilDiv(kTileTokens, kGroupThreads);
  static constexpr int kConsumers = kRowGroups * kKGroups;  // Warpgroups.
  static constexpr int kConsumerThreads = kConsumers * kWarpgroupThreads;
  static constexpr int kConsumerWarps = kConsumerThreads / kWarpThreads;
  static constexpr int kThreads = kWarpgroupThreads + kConsumerThreads;

  // Warpgroups that add up to one output, and the chunks of 8 tokens they share out for it.
  static constexpr int kSummands = kKGroups * kClusterK;
  static constexpr int kChunks = kTileTokens / 8;
  static constexpr int kChunksPerCta = CeilDiv(kChunks, kClusterK);
  static constexpr int OwnerOf(int chunk_idx) { return chunk_idx * kSummands / kChunks; }

  // Unsigned weights cost 5 integer operations for 8 of them, signed ones 7; but their products
  // toggle more bits, which at 256 tokens costs more clock than it saves.
  static constexpr bool kIsBiased = kTileTokens <= 128;
  // Registers a thread once the producer's warpgroup has given most of its own away; at entry all
  // have the same, rounded down to a multiple of 8.
  static constexpr int kProducerRegisters = kConsumers == 4 ? 32 : 56;
  static constexpr int kEntryRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kConsumerRegisters =
      (kEntryRegisters * (kConsumers + 1) - kProducerRegisters) / kConsumers / 8 * 8;

  // Before the main loop, which hides their latency; after it where it needs their registers and
  // adding partial sums hides some.
  static constexpr bool kLoadsOutputsEarly = kSummands == 1 || kTileTokens <= 16;

  static constexpr int kTokenBytes = kTileTokens * kUnitChannels;
  static constexpr int kStageBytes = kKGroups * kTokenBytes + kConsumers * kUnitBytes;
  static constexpr int kPartialBytes =
      kSummands == 1 ? 0 : kChunksPerCta * (kSummands - 1) * kWarpgroupThreads * 16 * kRowGroups;
  static constexpr int kFactorBytes = 2 * kRowGroups * kTileTokens * (kIsBiased ? 12 : 8);
  // f16 results leave through two boxes of each row group, one filled while the other is stored.
  static constexpr int kBoxTokens = kConfig.box_tokens();
  static constexpr int kNumBoxes = kBoxTokens > 0 ? kTileTokens / kBoxTokens : 0;  // Of a tile.
  static constexpr int kBoxBytes = kBoxTokens * kUnitOutputs * 2;
  static constexpr int kFixedBytes =
      kPartialBytes + kFactorBytes + 2 * kRowGroups * kBoxBytes + 1024;
  static constexpr int kStages = std::min(20, (kSmemBytesMax - kFixedBytes) / kStageBytes);
  static_assert(kStages >= 3);
};

// What the epilogue needs of each token of a tile.
template <typename Traits>
struct alignas(16) TokenFactors {
  float scale[Traits::kTileTokens];
  int exponent[Traits::kTileTokens];
  // What biased weights add to every sum.
  int excess[Traits::kIsBiased ? Traits::kTileTokens : 1];
};

template <typename Traits>
struct alignas(1024) SmemLayout {
  // Swizzled, 128 bytes a token; tiles of a stage are those of the k groups.
  uint8_t tokens[Traits::kStages][Traits::kKGroups][Traits::kTokenBytes];
  // Units of a stage: row group after row group, in each the k groups'.
  uint8_t units[Traits::kStages][Traits::kConsumers][kUnitBytes];
  // Swizzled as tokens are, 128 bytes a token: [row group][turn].
  alignas(1024) uint8_t boxes[Traits::kRowGroups][2][std::max(Traits::kBoxBytes, 16)];
  alignas(16) uint8_t partials[std::max(Traits::kPartialBytes, 16)];
  // Of each row group: of the tile at hand and of the one before.
  TokenFactors<Traits> factors[Traits::kRowGroups][2];
  uint64_t full[Traits::kStages];
  uint64_t empty[Traits::kStages];
  uint64_t partials_full;
};

struct Tile {
  int row_idx;    // In tiles of outputs,
  int token_idx;  // in tiles of tokens.
};

// Tiles in the order of the grid: a band of kRasterTokens tokens after the other, in it row after
// row. So CTAs at work at one time share both weights and tokens.
template <typename Traits>
__device__ __forceinline__ Tile TileAt(int tile_idx, int num_row_tiles, int num_token_tiles) {
  constexpr int kBandTiles = kRasterTokens / Traits::kTileTokens;
  const int band_idx = tile_idx / (kBandTiles * num_row_tiles);
  const int first_token_tile = band_idx * kBandTiles;
  const int band_tiles = min(kBandTiles, num_token_tiles - first_token_tile);
  const int idx_in_band = tile_idx - first_token_tile * num_row_tiles;
  return {.row_idx = idx_in_band / band_tiles,
          .token_idx = first_token_tile + idx_in_band % band_tiles};
}

// What one CTA does: the tiles first, first + stride, ..., and of each the blocks of its rank.
template <typename Traits>
struct Work {
  __device__ explicit Work(const GemmParams& params)
      : num_row_tiles(CeilDiv(params.num_outputs, kUnitOutputs * Traits::kRowGroups)),
        num_token_tiles(CeilDiv(params.num_tokens, Traits::kTileTokens)),
        num_blocks(params.num_int8_blocks + params.num_int4_blocks),
        cta_rank(Traits::kClusterK == 1 ? 0 : ptx::ClusterRank()),
        first_tile(static_cast<int>(blockIdx.x) / Traits::kClusterK),
        tile_stride(static_cast<int>(gridDim.x) / Traits::kClusterK),
        num_tiles(num_row_tiles * num_token_tiles),
        first_step(cta_rank * Traits::kKGroups),
        num_rounds(CeilDiv(max(num_blocks - first_step, 0), Traits::kSummands)) {}

  __device__ Tile TileOf(int tile_idx) const {
    return TileAt<Traits>(tile_idx, num_row_tiles, num_token_tiles);
  }

  // Blocks of a round: one for each k group, but for the last round.
  __device__ int NumSteps(int round) const {
    return min(Traits::kKGroups, num_blocks - first_step - round * Traits::kSummands);
  }

  const int num_row_tiles;
  const int num_token_tiles;
  const int num_blocks;
  const int cta_rank;
  const int first_tile;
  const int tile_stride;
  const int num_tiles;
  // Round r of a tile fills one stage with the steps first_step + r * kSummands + [0, kKGroups).
  const int first_step;
  const int num_rounds;
};

// A place in the ring of stages.
template <typename Traits>
struct RingCursor {
  int stage_idx = 0;
  uint32_t phase = 0;

  __device__ __forceinline__ void Advance() {
    if (++stage_idx == Traits::kStages) {
      stage_idx = 0;
      phase ^= 1;
    }
  }
};

}  // namespace comet::sm90
