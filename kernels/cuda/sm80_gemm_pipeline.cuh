#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device/ptx_async_copy.cuh"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/sm80_gemm_params.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

// What all threads of the product share: shapes, shared memory, and the loads of a ring of stages
// that run ahead of the products.
namespace comet::sm80 {

constexpr int kWarpThreads = 32;
constexpr int kRowBytes = 64;  // Of a token in a stage: 64 INT8 codes or 128 INT4 codes.
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kRowBytes / kChunkBytes;

// Named barriers: each k group of several warps has one, or the finisher's come in their place.
constexpr int kFirstGroupBarrier = 1;
constexpr int kSumsPassed = 1;
constexpr int kSumsTaken = 2;

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
  // K groups' sums pass through shared memory in rounds of so many of a thread's.
  static constexpr int kRoundFrags = kFrags < 8 ? kFrags : 8;
  static_assert(kFrags % kRoundFrags == 0);
  static constexpr bool kHasFinisher = kConfig.has_finisher();
  static constexpr int kSumVectors =
      (kHasFinisher ? kKGroups : kKGroups - 1) * kRoundFrags * kGroupThreads;
  static_assert(!kHasFinisher || (kGroupThreads == kWarpThreads && kRoundFrags == kFrags));
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
  // [chunk of a row][row of units][a chunk of 16 bytes a thread], so that a thread writes at one
  // offset; the first half alone where tokens are INT8.
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
  TokenFactors<Traits::kTileTokens> factors[Traits::kKGroups + (Traits::kHasFinisher ? 1 : 0)];
  int32_t blocks_before;
};

// Blocks [begin, end) of a tile.
struct Piece {
  int tile_idx;
  int begin;
  int end;
};

// The `idx`-th piece of this CTA (see WorkSplit), from nothing but its index, as registers are
// dear. Returns whether there is one. Pieces of split tiles come first: their exchange of sums then
// waits while the whole tiles' loads are under way.
__device__ __forceinline__ bool FindPiece(const GemmParams& params, int idx, Piece& piece) {
  const WorkSplit& split = params.split;
  const int num_blocks = params.num_int8_blocks + params.num_int4_blocks;
  const int cta_idx = static_cast<int>(blockIdx.x);
  const SplitPoint first = split.boundary[cta_idx];
  const SplitPoint last = split.boundary[cta_idx + 1];
  const int num_split =
      last.tile - first.tile + (last.block > (first.tile == last.tile ? first.block : 0) ? 1 : 0);
  if (idx < num_split) {
    const int tile = first.tile + idx;
    piece = {split.num_whole_tiles + tile, idx == 0 ? first.block : 0,
             tile < last.tile ? num_blocks : last.block};
    return true;
  }
  piece = {cta_idx + (idx - num_split) * split.num_ctas, 0, num_blocks};
  return piece.tile_idx < split.num_whole_tiles;
}

// Of the blocks `block`, `block` + kKGroups ... below `end`, the number.
template <typename Traits>
__device__ __forceinline__ int BlocksBelow(int end, int block) {
  return block < end ? (end - block + Traits::kKGroups - 1) / Traits::kKGroups : 0;
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

// Where a k group's stages come from, in the order of the products but ahead of them. A block whose
// tokens are INT8 takes two stages, one half of its channels each. A run is the stages of one
// region of a piece. All of a group's threads copy equal parts of each stage.
template <typename Traits>
class Loader {
 public:
  __device__ Loader(const GemmParams& params, const Worker<Traits>& me) : params_(params), me_(me) {
    StartPiece();
  }

  // Starts the copies of the next stage, if there is one, to a shared address. Without a branch, as
  // it stands among the multiplies; Finish() does what is rare.
  __device__ __forceinline__ void Start(uint32_t stage) const {
    const bool has_stage = stages_left_ > 0;
    const uint8_t* const codes = unit_ + (is_second() ? kHalfBytes : 0);
    const uint32_t place = stage + thread() * kChunkBytes;
#pragma unroll
    for (int i = 0; i < kHalfCopies; ++i) {
      ptx::StartAsyncCopy16If(has_stage, place + i * kCopyBytes, codes + i * kRowCopyBytes);
    }
#pragma unroll
    for (int i = kHalfCopies; i < 2 * kHalfCopies; ++i) {
      ptx::StartAsyncCopy16If(has_stage && run_ == kBlocks, place + i * kCopyBytes,
                              unit_ + i * kRowCopyBytes);
    }
    ptx::StartAsyncCopy16If(
        has_stage && unit_offset() < kUnitOutputs,
        place + kGammas - static_cast<uint32_t>(unit_row() * (kRowCopyBytes - kUnitOutputs)),
        unit_ + kUnitCodeBytes);
    // Rows past M keep what they held: their sums are not stored.
#pragma unroll
    for (int i = 0; i < kTokenCopies; ++i) {
      ptx::StartAsyncCopy16If(i * kTokenRows < rows_left_, place + kTokens + i * kCopyBytes,
                              codes_ + uint64_t{params_.codes_copy_stride} * i);
    }
  }

  // Ends the group of that stage's copies, an empty one after the last stage, as the waits count
  // groups; and goes to the stage after.
  __device__ __forceinline__ void Finish(uint32_t stage) {
    if (run_ & kIsShort) StartShortTokens(stage);
    ptx::CommitAsyncCopies();
    const bool ends_block = (run_ & kIsHalves) == 0 || is_second();
    codes_ += kRowBytes;
    if (ends_block) {
      unit_ += Traits::kKGroups * kUnitBytes;
      if (Traits::kKGroups > 1) {
        codes_ += (Traits::kKGroups - 1) * (run_ == kBlocks ? kRowBytes : kUnitChannels);
      }
    }
    if (--stages_left_ == 0) NextRun();
  }

 private:
  // What a run is: whole blocks of packed codes, or halves of blocks of bytes, where K may be short
  // of the last; and whether it is the piece's INT8 region.
  static constexpr int kBlocks = 0;
  static constexpr int kIsHalves = 1;
  static constexpr int kIsShort = 2;
  static constexpr int kIsInt8Region = 4;

  static constexpr int kCopyBytes = Traits::kGroupThreads * kChunkBytes;  // A chunk a thread.
  static constexpr int kRowThreads = Traits::kGroupThreads / Traits::kRowWarps;
  static constexpr int kRowCopyBytes = kRowThreads * kChunkBytes;
  static constexpr int kHalfBytes = kUnitCodeBytes / 2;
  static constexpr int kTokenRows = Traits::kGroupThreads / kChunksPerRow;  // At a time.
  static constexpr int kHalfCopies = kHalfBytes / kRowCopyBytes;            // Of half a unit.
  static constexpr int kTokenCopies = Traits::kTileTokens / kTokenRows;
  static constexpr uint32_t kGammas = offsetof(Stage<Traits>, gammas);
  static constexpr uint32_t kTokens = offsetof(Stage<Traits>, tokens);
  static_assert(kHalfCopies * kRowCopyBytes == kHalfBytes);
  static_assert(kTokenCopies * kTokenRows == Traits::kTileTokens);

  // Of a block's halves; their number is even.
  __device__ __forceinline__ bool is_second() const { return (stages_left_ & run_ & 1) != 0; }
  // What this thread copies, by its index in its group.
  __device__ __forceinline__ unsigned thread() const { return me_.group_thread; }
  __device__ __forceinline__ int unit_row() const {
    return static_cast<int>(thread() / unsigned{kRowThreads});
  }
  __device__ __forceinline__ int unit_offset() const {
    return static_cast<int>(thread() % unsigned{kRowThreads} * kChunkBytes);
  }
  __device__ __forceinline__ int token_row() const {
    return static_cast<int>(thread() / unsigned{kChunksPerRow});
  }
  __device__ __forceinline__ int token_offset() const {
    return static_cast<int>(thread() % unsigned{kChunksPerRow} * kChunkBytes);
  }

  // The piece's other region, or the next piece.
  __device__ void NextRun() {
    Piece piece;
    FindPiece(params_, piece_idx_, piece);
    if (run_ & kIsInt8Region) {
      const int first = piece.begin + me_.k_group;
      const int num_int8 = BlocksBelow<Traits>(min(piece.end, params_.num_int8_blocks), first);
      const int block = first + num_int8 * Traits::kKGroups;
      if (block < piece.end) return StartRun(piece, block);
    }
    ++piece_idx_;
    StartPiece();
  }

  // The next piece, from piece_idx_ on, that has a block for this group.
  __device__ void StartPiece() {
    Piece piece;
    for (; FindPiece(params_, piece_idx_, piece); ++piece_idx_) {
      const int block = piece.begin + me_.k_group;
      if (block < piece.end) return StartRun(piece, block);
    }
    run_ = kBlocks;
    rows_left_ = 0;
  }

  __device__ void StartRun(const Piece& piece, int block) {
    const bool is_int8_region = block < params_.num_int8_blocks;
    const int region_end = is_int8_region ? min(piece.end, params_.num_int8_blocks) : piece.end;
    const int num_blocks = BlocksBelow<Traits>(region_end, block);
    const bool is_short = params_.num_inputs % int{kUnitChannels} != 0;
    if (Traits::kIsPacked && !is_int8_region) {
      run_ = kBlocks;
      stages_left_ = num_blocks;
    } else {
      run_ = kIsHalves | (is_short ? kIsShort : 0) | (is_int8_region ? kIsInt8Region : 0);
      stages_left_ = 2 * num_blocks;
    }
    // A row of units past the last is the last again: its sums are not stored.
    const TilePlace tile = PlaceOf(params_, piece.tile_idx);
    const int row = min(tile.row * Traits::kRowWarps + unit_row(), params_.num_unit_rows - 1);
    const int blocks_of_row = params_.num_int8_blocks + params_.num_int4_blocks;
    unit_ = params_.units + (int64_t{row} * blocks_of_row + block) * kUnitBytes + unit_offset();
    const int token = tile.token * Traits::kTileTokens + token_row();
    rows_left_ = run_ & kIsShort ? 0 : params_.num_tokens - token;
    constexpr int kInt4BlockBytes = Traits::kIsPacked ? kRowBytes : kUnitChannels;
    const int column = is_int8_region ? (params_.num_int4_blocks + block) * kUnitChannels
                                      : (block - params_.num_int8_blocks) * kInt4BlockBytes;
    codes_ = params_.codes + token * params_.codes_row_stride + column + token_offset();
  }

  // Of tokens, where K is no whole number of blocks and INT8 stages may pass it: zeros from there
  // on.
  __device__ void StartShortTokens(uint32_t stage) const {
    Piece piece;
    FindPiece(params_, piece_idx_, piece);
    const int token = PlaceOf(params_, piece.tile_idx).token * Traits::kTileTokens + token_row();
    const int64_t column = codes_ - params_.codes - token * params_.codes_row_stride;
    const int num_bytes =
        static_cast<int>(min(max(params_.num_inputs - column, int64_t{0}), int64_t{kChunkBytes}));
#pragma unroll 1
    for (int i = 0; i < kTokenCopies; ++i) {
      // Where nothing is read the address still exists.
      if (token + i * kTokenRows < params_.num_tokens) {
        const int8_t* source = codes_ + i * kTokenRows * params_.codes_row_stride;
        ptx::StartAsyncCopy16(stage + kTokens + thread() * kChunkBytes + i * kCopyBytes,
                              num_bytes > 0 ? source : params_.codes, num_bytes);
      }
    }
  }

  const GemmParams& params_;
  const Worker<Traits>& me_;
  int piece_idx_ = 0;  // Of the run in hand.
  // The next stage: this thread's first chunk of its block of weights and of its tokens.
  const uint8_t* unit_ = nullptr;
  const int8_t* codes_ = nullptr;
  int rows_left_ = 0;    // Up to M, from this thread's first row on; 0 where Finish() copies them.
  int stages_left_ = 0;  // Of this run; none after the last piece.
  int run_ = kBlocks;
};

}  // namespace comet::sm80
