#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/sm80_gemm_params.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

// What all threads of the product share: shapes, shared memory, pieces of work, and who they are.
namespace comet::sm80 {

constexpr int kWarpThreads = 32;
constexpr int kRowBytes = 64;  // Of a token in a stage: 64 INT8 codes or 128 INT4 codes.
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kRowBytes / kChunkBytes;

// Named barriers: each k group of several warps has one, the finisher too.
constexpr int kFirstGroupBarrier = 1;

// How the multiplies are made. All but the first two are for measurement.
enum class Int4Multiply { kS4, kStandIn };  // kStandIn: m16n8k32.s8 on the registers of kS4.
enum class Conversion { kInFragment, kOnSums, kPerElement };

template <int kConfigIdx, bool kHasPackedCodes, Int4Multiply kMultiply = Int4Multiply::kS4,
          Conversion kConversionKind = Conversion::kInFragment, bool kPipelined = true,
          bool kFragments = true>
struct GemmTraits {
  static constexpr GemmConfig kConfig = kGemmConfigs[kConfigIdx];
  static constexpr bool kIsPacked = kHasPackedCodes;
  static constexpr Int4Multiply kInt4Multiply = kMultiply;
  static constexpr Conversion kConversion = kConversionKind;
  static constexpr bool kIsPipelined = kPipelined;
  static constexpr bool kHasFragments = kFragments;

  static constexpr int kRowWarps = kConfig.row_warps;
  static constexpr int kTokenWarps = kConfig.token_warps;
  static constexpr int kWarpTokens = kConfig.warp_tokens;
  static constexpr int kKGroups = kConfig.k_groups;
  static constexpr int kStages = kConfig.num_stages;
  static constexpr int kTileOutputs = kConfig.tile_outputs();
  static constexpr int kTileTokens = kConfig.tile_tokens();
  static constexpr int kGroupThreads = kConfig.group_threads();
  static constexpr int kThreads = kConfig.num_threads();
  static constexpr int kTokenFrags = kWarpTokens / 8;  // mma's n.
  static constexpr int kFrags = 4 * kTokenFrags;       // Sums of a thread, in fours.
  static constexpr int kTileSums = kFrags * 4 * kGroupThreads;
  static constexpr bool kHasFinisher = kConfig.has_finisher();
  // K groups' sums pass through shared memory in rounds of so many of a thread's.
  static constexpr int kRoundFrags = kFrags < 8 ? kFrags : 8;
  static_assert(kFrags % kRoundFrags == 0);
  static constexpr int kSumVectors =
      (kHasFinisher ? kKGroups : kKGroups - 1) * kRoundFrags * kGroupThreads;
  static_assert(kTileTokens <= kGroupThreads);  // A token's factors a thread.
  // Whether the loop is that of sm80_gemm_wide.cuh.
  static constexpr bool kIsWide =
      kConfig.is_wide() && kPipelined && kFragments && kConversionKind != Conversion::kOnSums;
};

// What one token brings to the end of a tile.
template <int kTileTokens>
struct TokenFactors {
  float scale[kTileTokens];
  int32_t excess[kTileTokens];  // What unsigned weights add too much.
};

template <typename Traits>
struct Stage {
  // [chunk of a row][row of units][a chunk of 16 bytes a thread], so that a thread writes at one
  // offset; the first half alone where tokens are INT8, until the wide loop turns it into bytes.
  uint8_t codes[Traits::kRowWarps * kUnitCodeBytes];
  uint8_t gammas[Traits::kRowWarps][kUnitOutputs];
  uint8_t tokens[Traits::kTileTokens][kRowBytes];
};

template <typename Traits>
struct SmemLayout {
  Stage<Traits> ring[Traits::kKGroups][Traits::kStages];
  // Of the k groups but the first, in a round, or of all for the finisher:
  // [group][fragment][thread]. Arrays have one element at least.
  int4 sums[Traits::kSumVectors > 0 ? Traits::kSumVectors : 1];
  TokenFactors<Traits::kTileTokens> factors;  // Of those who store.
  uint8_t exponents[Traits::kKGroups + (Traits::kHasFinisher ? 1 : 0)][Traits::kTileTokens];
  int32_t blocks_before;
};

// Blocks [begin, end) of a tile.
struct Piece {
  int tile_idx;
  int begin;
  int end;
};

// The `idx`-th piece of this CTA (see WorkSplit), from nothing but its index, as registers are
// dear. Returns whether there is one.
__device__ __forceinline__ bool FindPiece(const GemmParams& params, int idx, Piece& piece) {
  const WorkSplit& split = params.split;
  const int num_blocks = params.num_int8_blocks + params.num_int4_blocks;
  const int cta_idx = static_cast<int>(blockIdx.x);
  const SplitPoint first = split.boundary[cta_idx];
  const SplitPoint last = split.boundary[cta_idx + 1];
  const int num_split =
      last.tile - first.tile + (last.block > (first.tile == last.tile ? first.block : 0) ? 1 : 0);
  const bool ends_last = split.ends_last && first.block > 0 && first.tile < last.tile;
  const int num_before = num_split - (ends_last ? 1 : 0);  // The whole tiles.
  if (idx < num_before) {
    const int tile = first.tile + (split.ends_last ? num_split - 1 - idx : idx);
    piece = {split.num_whole_tiles + tile, tile == first.tile ? first.block : 0,
             tile < last.tile ? num_blocks : last.block};
    return true;
  }
  piece = {cta_idx + (idx - num_before) * split.num_ctas, 0, num_blocks};
  const int tiles_past = piece.tile_idx - split.num_whole_tiles;
  if (tiles_past < 0) return true;
  piece = {split.num_whole_tiles + first.tile, first.block, num_blocks};
  return ends_last && tiles_past < split.num_ctas;
}

// Of the blocks `block`, `block` + kKGroups ... below `end`, the number.
template <typename Traits>
__device__ __forceinline__ int BlocksBelow(int end, int block) {
  return block < end ? (end - block + Traits::kKGroups - 1) / Traits::kKGroups : 0;
}

__device__ __forceinline__ bool IsWhole(const GemmParams& params, const Piece& piece) {
  return piece.end - piece.begin == params.num_int8_blocks + params.num_int4_blocks;
}

// Of a piece, a k group's blocks.
struct GroupBlocks {
  int num_int8;
  int num_int4;

  template <typename Traits>
  __device__ __forceinline__ int num_stages() const {
    return 2 * num_int8 + (Traits::kIsPacked ? 1 : 2) * num_int4;
  }
};

template <typename Traits>
__device__ __forceinline__ GroupBlocks BlocksOf(const GemmParams& params, const Piece& piece,
                                                int group) {
  if (Traits::kHasFinisher && group == Traits::kKGroups) return {0, 0};
  const int first = piece.begin + group;
  const int num_int8 = BlocksBelow<Traits>(min(piece.end, params.num_int8_blocks), first);
  return {num_int8, BlocksBelow<Traits>(piece.end, first + num_int8 * Traits::kKGroups)};
}

// Of y, in tiles.
struct TilePlace {
  int row;
  int token;
};

// Tiles of the same rows follow one another: their weights are read from HBM once.
__device__ __forceinline__ TilePlace PlaceOf(const GemmParams& params, int tile_idx) {
  const uint32_t row = params.num_token_tiles == 1
                           ? static_cast<uint32_t>(tile_idx)
                           : __umulhi(static_cast<uint32_t>(tile_idx), params.token_tiles_inverse);
  return {static_cast<int>(row), tile_idx - static_cast<int>(row) * params.num_token_tiles};
}

// Who a thread is.
template <typename Traits>
struct Worker {
  __device__ Worker() : Worker(ptx::InRegister(threadIdx.x)) {}

  // Unsigned divisions by powers of two are one instruction each.
  __device__ explicit Worker(unsigned thread)
      : group_thread(Traits::kKGroups == 1 ? thread : thread % unsigned{Traits::kGroupThreads}),
        // Said to be 0 where it is: what follows from it is then the same for all threads. The
        // finisher's is kKGroups.
        k_group(Traits::kKGroups == 1 ? 0
                                      : static_cast<int>(thread / unsigned{Traits::kGroupThreads})),
        lane_idx(thread % unsigned{kWarpThreads}),
        row_warp(group_thread / unsigned{kWarpThreads * Traits::kTokenWarps}),
        token_warp(thread / unsigned{kWarpThreads} % unsigned{Traits::kTokenWarps}) {}

  // Whether this warp's group has no blocks but the others' sums.
  __device__ __forceinline__ bool is_finisher() const {
    return Traits::kHasFinisher && k_group == Traits::kKGroups;
  }

  // A barrier of the warps that share a ring.
  __device__ __forceinline__ void SyncGroup() const {
    if constexpr (Traits::kGroupThreads == kWarpThreads) {
      __syncwarp();
    } else if constexpr (Traits::kKGroups == 1) {
      __syncthreads();
    } else {
      ptx::SyncThreads(kFirstGroupBarrier + k_group, Traits::kGroupThreads);
    }
  }

  const unsigned group_thread;
  const int k_group;
  const unsigned lane_idx;
  const unsigned row_warp;
  const unsigned token_warp;
};

}  // namespace comet::sm80
