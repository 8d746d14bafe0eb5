#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_async_copy.cuh"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/sm80_gemm_params.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

// What all threads of the product share: shapes, shared memory, and the loads of a ring of stages
// that run ahead of the products.
namespace comet::sm80 {

constexpr int kWarpThreads = 32;
constexpr int kRowBytes = 64;  // Of a token in a stage: 64 INT8 codes or 128 INT4 codes.
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kRowBytes / kChunkBytes;

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
  // The warps of a group take turns at filling its stages, a team a stage: most of what a fill
  // costs is its addresses, which more threads would only work out more often.
  static constexpr int kTeams = kGroupThreads == kWarpThreads ? 1 : 4;
  static constexpr int kTeamThreads = kGroupThreads / kTeams;
  static constexpr int kTokenFrags = kWarpTokens / 8;  // mma's n.
  static constexpr int kFrags = 4 * kTokenFrags;       // Sums of a thread, in fours.
  static constexpr int kSumVectors = (kKGroups - 1) * kFrags * kGroupThreads;
  static_assert(kTileTokens <= kGroupThreads);  // A token's factors a thread.
};

// What one token brings to the end of a tile.
template <int kTileTokens>
struct TokenFactors {
  float scale[kTileTokens];
  int32_t excess[kTileTokens];  // What unsigned weights add too much.
  uint8_t exponent[kTileTokens];
};

template <typename Traits>
struct Stage {
  uint8_t codes[Traits::kRowWarps][kUnitCodeBytes];  // The first half alone where tokens are INT8.
  uint8_t steps[Traits::kRowWarps][kUnitOutputs];
  uint8_t tokens[Traits::kTileTokens][kRowBytes];
};

// What a warp's loader needs at the ends of runs of stages only: kept in shared memory, as
// registers are dear.
struct LoaderPlace {
  int piece_idx;  // Of the piece in hand.
  int block;      // The first of this group's that is not part of the run in hand.
};

template <typename Traits>
struct SmemLayout {
  Stage<Traits> ring[Traits::kKGroups][Traits::kStages];
  // Of the k groups but the first: [group][fragment][thread]. Arrays have one element at least.
  int4 sums[Traits::kSumVectors > 0 ? Traits::kSumVectors : 1];
  TokenFactors<Traits::kTileTokens> factors[Traits::kKGroups];
  LoaderPlace loader[Traits::kThreads / kWarpThreads];
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
  piece = {cta_idx + idx * split.num_ctas, 0, num_blocks};
  if (piece.tile_idx < split.num_whole_tiles) return true;
  const SplitPoint first = split.boundary[cta_idx];
  const SplitPoint last = split.boundary[cta_idx + 1];
  const int split_idx = idx - params.whole_waves - (cta_idx < params.whole_tiles_beyond ? 1 : 0);
  const int tile = first.tile + split_idx;
  piece = {split.num_whole_tiles + tile, split_idx == 0 ? first.block : 0,
           tile < last.tile    ? num_blocks
           : tile == last.tile ? last.block
                               : 0};
  return piece.begin < piece.end;
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
  // Unsigned divisions by powers of two are one instruction each.
  __device__ Worker()
      : group_thread(static_cast<int>(threadIdx.x % unsigned{Traits::kGroupThreads})),
        k_group(static_cast<int>(threadIdx.x / unsigned{Traits::kGroupThreads})),
        lane_idx(static_cast<int>(threadIdx.x % unsigned{kWarpThreads})),
        row_warp(static_cast<int>(threadIdx.x % unsigned{Traits::kGroupThreads} /
                                  unsigned{kWarpThreads * Traits::kTokenWarps})),
        token_warp(static_cast<int>(threadIdx.x / unsigned{kWarpThreads} %
                                    unsigned{Traits::kTokenWarps})) {}

  // A barrier of the warps that share a ring.
  __device__ __forceinline__ void SyncGroup() const {
    if constexpr (Traits::kGroupThreads == kWarpThreads) {
      __syncwarp();
    } else {
      static_assert(Traits::kKGroups == 1);
      __syncthreads();
    }
  }

  const int group_thread;
  const int k_group;
  const int lane_idx;
  const int row_warp;
  const int token_warp;
};

// Where a k group's stages come from, in the order of the products but ahead of them. A block whose
// tokens are INT8 takes two stages, one half of its channels each. A run is the stages of one
// region of a piece.
template <typename Traits>
class Loader {
 public:
  __device__ Loader(const GemmParams& params, const Worker<Traits>& me, LoaderPlace* place)
      : params_(params), me_(me), place_(place) {
    StartPiece(/*piece_idx=*/0);
  }

  __device__ __forceinline__ bool has_stage() const { return stages_left_ > 0; }

  // Starts the copies of the next stage, of which there is one. By the threads of one team.
  __device__ __forceinline__ void Load(Stage<Traits>& stage) const {
    LoadUnits(stage);
    if (is_half_ && params_.num_inputs % kUnitChannels != 0) {
      LoadShortTokens(stage);
    } else {
      LoadTokens(stage);
    }
  }

  // To the stage after. By all.
  __device__ __forceinline__ void Advance() {
    // From a half to the other or to the next block's first; or from a block to the next.
    unit_ += !is_half_ ? kBlockStride : is_second() ? kBlockStride - kHalfBytes : kHalfBytes;
    constexpr int kSkippedBlocks = Traits::kKGroups - 1;
    codes_ += !is_half_     ? kRowBytes + kSkippedBlocks * kRowBytes
              : is_second() ? kRowBytes + kSkippedBlocks * kUnitChannels
                            : kRowBytes;
    if (--stages_left_ == 0) NextRun();
  }

 private:
  static constexpr int kBlockStride = Traits::kKGroups * kUnitBytes;
  static constexpr int kRowThreads = Traits::kTeamThreads / Traits::kRowWarps;
  static constexpr int kHalfBytes = kUnitCodeBytes / 2;
  static constexpr int kUnitCopies = kHalfBytes / kChunkBytes / kRowThreads;  // Of half a unit.
  static constexpr int kTokenRows = Traits::kTeamThreads / kChunksPerRow;     // At a time.
  static constexpr int kTokenCopies = Traits::kTileTokens / kTokenRows;
  static_assert(kUnitCopies * kRowThreads * kChunkBytes == kHalfBytes);
  static_assert(kTokenCopies * kTokenRows == Traits::kTileTokens);

  __device__ __forceinline__ bool is_second() const { return stages_left_ % 2u != 0; }
  // What this thread copies, by its index among its team's.
  __device__ __forceinline__ static unsigned thread() {
    return threadIdx.x % unsigned{Traits::kTeamThreads};
  }
  __device__ __forceinline__ static int unit_row() {
    return static_cast<int>(thread() / unsigned{kRowThreads});
  }
  __device__ __forceinline__ static int unit_offset() {
    return static_cast<int>(thread() % unsigned{kRowThreads} * kChunkBytes);
  }
  __device__ __forceinline__ static int token_row() {
    return static_cast<int>(thread() / unsigned{kChunksPerRow});
  }
  __device__ __forceinline__ static int token_offset() {
    return static_cast<int>(thread() % unsigned{kChunksPerRow} * kChunkBytes);
  }

  // The piece's other region, or the next piece.
  __device__ void NextRun() {
    const LoaderPlace place = *place_;
    Piece piece;
    FindPiece(params_, place.piece_idx, piece);
    if (place.block < piece.end) {
      StartRun(place.piece_idx, piece, place.block);
    } else {
      StartPiece(place.piece_idx + 1);
    }
  }

  // The next piece, from piece_idx on, that has a block for this group.
  __device__ void StartPiece(int piece_idx) {
    Piece piece;
    for (; FindPiece(params_, piece_idx, piece); ++piece_idx) {
      const int block = piece.begin + me_.k_group;
      if (block < piece.end) return StartRun(piece_idx, piece, block);
    }
  }

  __device__ void StartRun(int piece_idx, const Piece& piece, int block) {
    const bool is_int8_region = block < params_.num_int8_blocks;
    const int region_end = is_int8_region ? min(piece.end, params_.num_int8_blocks) : piece.end;
    const int num_blocks = (region_end - block + Traits::kKGroups - 1) / Traits::kKGroups;
    is_half_ = !Traits::kIsPacked || is_int8_region;
    stages_left_ = static_cast<unsigned>(is_half_ ? 2 * num_blocks : num_blocks);
    // A row of units past the last is the last again: its sums are not stored.
    const TilePlace tile = PlaceOf(params_, piece.tile_idx);
    const int row = min(tile.row * Traits::kRowWarps + unit_row(), params_.num_unit_rows - 1);
    const int blocks_of_row = params_.num_int8_blocks + params_.num_int4_blocks;
    unit_ = params_.units + (int64_t{row} * blocks_of_row + block) * kUnitBytes + unit_offset();
    const int token = tile.token * Traits::kTileTokens + token_row();
    rows_left_ = params_.num_tokens - token;
    constexpr int kInt4BlockBytes = Traits::kIsPacked ? kRowBytes : kUnitChannels;
    const int column = is_int8_region ? (params_.num_int4_blocks + block) * kUnitChannels
                                      : (block - params_.num_int8_blocks) * kInt4BlockBytes;
    codes_ = params_.codes + token * params_.codes_row_stride + column + token_offset();
    __syncwarp();  // All have read the place before.
    if (me_.lane_idx == 0) *place_ = {piece_idx, block + num_blocks * Traits::kKGroups};
    __syncwarp();
  }

  // Half of the units' codes, or all; and the steps.
  __device__ __forceinline__ void LoadUnits(Stage<Traits>& stage) const {
    uint8_t* const codes = stage.codes[unit_row()] + unit_offset();
#pragma unroll
    for (int i = 0; i < kUnitCopies; ++i) {
      const int offset = i * kRowThreads * kChunkBytes;
      ptx::StartAsyncCopy16(codes + offset, unit_ + offset);
      if (!is_half_) {
        ptx::StartAsyncCopy16(codes + kHalfBytes + offset, unit_ + kHalfBytes + offset);
      }
    }
    if (unit_offset() < kUnitOutputs) {
      ptx::StartAsyncCopy16(stage.steps[unit_row()] + unit_offset(),
                            unit_ + kUnitCodeBytes - (is_half_ && is_second() ? kHalfBytes : 0));
    }
  }

  // The tile's rows of tokens. Rows past M keep what they held: their sums are not stored.
  __device__ __forceinline__ void LoadTokens(Stage<Traits>& stage) const {
    uint8_t* const tokens = stage.tokens[0] + thread() * kChunkBytes;
    // 32 bits, so that an address is one instruction.
    const uint32_t row_step = static_cast<uint32_t>(params_.codes_row_stride) * kTokenRows;
#pragma unroll
    for (int i = 0; i < kTokenCopies; ++i) {
      if (i * kTokenRows < rows_left_) {
        ptx::StartAsyncCopy16(tokens + i * kTokenRows * kRowBytes,
                              codes_ + uint64_t{static_cast<uint32_t>(i)} * row_step);
      }
    }
  }

  // The same where K is no whole number of blocks, and INT8 stages may pass it: zeros from there
  // on.
  __device__ __forceinline__ void LoadShortTokens(Stage<Traits>& stage) const {
    uint8_t* const tokens = stage.tokens[0] + thread() * kChunkBytes;
    const int token = params_.num_tokens - rows_left_;
    const int64_t column = codes_ - params_.codes - token * params_.codes_row_stride;
    const int num_bytes =
        static_cast<int>(min(max(params_.num_inputs - column, int64_t{0}), int64_t{kChunkBytes}));
#pragma unroll 1
    for (int i = 0; i < kTokenCopies; ++i) {
      // Where nothing is read the address still exists.
      if (i * kTokenRows < rows_left_) {
        const int8_t* source = codes_ + i * kTokenRows * params_.codes_row_stride;
        ptx::StartAsyncCopy16(tokens + i * kTokenRows * kRowBytes,
                              num_bytes > 0 ? source : params_.codes, num_bytes);
      }
    }
  }

  const GemmParams& params_;
  const Worker<Traits>& me_;
  LoaderPlace* const place_;
  // The next stage: this thread's first chunk of weights and of tokens.
  const uint8_t* unit_ = nullptr;
  const int8_t* codes_ = nullptr;
  int rows_left_ = 0;         // Up to M, from this thread's first row on.
  unsigned stages_left_ = 0;  // Of this run; 0 after the last piece.
  bool is_half_ = false;
};

}  // namespace comet::sm80
