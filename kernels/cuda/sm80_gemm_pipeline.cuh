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

template <typename Traits>
struct SmemLayout {
  Stage<Traits> ring[Traits::kKGroups][Traits::kStages];
  // Of the k groups but the first: [group][fragment][thread]. Arrays have one element at least.
  int4 sums[Traits::kSumVectors > 0 ? Traits::kSumVectors : 1];
  TokenFactors<Traits::kTileTokens> factors[Traits::kKGroups];
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
  __device__ Worker()
      : group_thread(static_cast<int>(threadIdx.x) % Traits::kGroupThreads),
        k_group(Traits::kKGroups == 1 ? 0 : static_cast<int>(threadIdx.x) / Traits::kGroupThreads),
        lane_idx(static_cast<int>(threadIdx.x) % kWarpThreads),
        row_warp(group_thread / kWarpThreads / Traits::kTokenWarps),
        token_warp(group_thread / kWarpThreads % Traits::kTokenWarps) {}

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

// Fills a k group's ring, stage after stage, in the order of the products but ahead of them. A
// block whose tokens are INT8 takes two stages, one half of its channels each.
template <typename Traits>
class Loader {
 public:
  __device__ Loader(const GemmParams& params, const Worker<Traits>& me, Stage<Traits>* ring)
      : params_(params), me_(me), ring_(ring) {
    StartPiece();
  }

  // Starts the copies of the next stage, if there is one, to `stage_idx` of the ring; either way
  // they are one group of copies.
  __device__ __forceinline__ void LoadNext(int stage_idx) {
    if (block_ < end_) {
      Stage<Traits>& stage = ring_[stage_idx];
      const bool is_int8_region = block_ < params_.num_int8_blocks;
      const bool is_half = !Traits::kIsPacked || is_int8_region;
      LoadUnits(stage, is_half);
      LoadTokens(stage, is_int8_region);
      half_ = is_half ? half_ ^ 1 : 0;
      if (half_ == 0) {
        block_ += Traits::kKGroups;
        unit_offset_ += Traits::kKGroups * kUnitBytes;
        if (block_ >= end_) StartPiece();
      }
    }
    ptx::CommitAsyncCopies();
  }

 private:
  static constexpr int kRowThreads = Traits::kGroupThreads / Traits::kRowWarps;
  static constexpr int kHalfBytes = kUnitCodeBytes / 2;
  static constexpr int kUnitCopies = kHalfBytes / kChunkBytes / kRowThreads;  // Of half a unit.
  static constexpr int kTokenRows = Traits::kGroupThreads / kChunksPerRow;    // At a time.
  static constexpr int kTokenCopies = Traits::kTileTokens / kTokenRows;
  static_assert(kUnitCopies * kRowThreads * kChunkBytes == kHalfBytes);
  static_assert(kTokenCopies * kTokenRows == Traits::kTileTokens);

  __device__ __forceinline__ int unit_row() const { return me_.group_thread / kRowThreads; }
  __device__ __forceinline__ int unit_offset() const {
    return me_.group_thread % kRowThreads * kChunkBytes;
  }
  __device__ __forceinline__ int token_offset() const {
    return me_.group_thread % kChunksPerRow * kChunkBytes;
  }

  // The next piece that has a block for this group.
  __device__ void StartPiece() {
    Piece piece;
    do {
      end_ = 0;
      if (!FindPiece(params_, piece_idx_, piece)) return;
      ++piece_idx_;
      block_ = piece.begin + me_.k_group;
      end_ = piece.end;
    } while (block_ >= end_);
    const TilePlace place = PlaceOf(params_, piece.tile_idx);
    const int num_blocks = params_.num_int8_blocks + params_.num_int4_blocks;
    // A row of units past the last is the last again: its sums are not stored.
    const int row = min(place.row * Traits::kRowWarps + unit_row(), params_.num_unit_rows - 1);
    unit_offset_ = static_cast<uint32_t>(row * num_blocks + block_) * kUnitBytes +
                   static_cast<uint32_t>(unit_offset());
    const int token = place.token * Traits::kTileTokens + me_.group_thread / kChunksPerRow;
    rows_left_ = params_.num_tokens - token;
    row_offset_ = static_cast<uint32_t>(token) * static_cast<uint32_t>(params_.codes_row_stride);
  }

  // Half of the units' codes, or all; and the steps.
  __device__ __forceinline__ void LoadUnits(Stage<Traits>& stage, bool is_half) const {
    uint8_t* const codes = stage.codes[unit_row()] + unit_offset();
    const uint8_t* const unit = params_.units + unit_offset_;
    const uint8_t* const source = unit + half_ * kHalfBytes;
#pragma unroll
    for (int i = 0; i < kUnitCopies; ++i) {
      const int offset = i * kRowThreads * kChunkBytes;
      ptx::StartAsyncCopy16(codes + offset, source + offset);
      if (!is_half)
        ptx::StartAsyncCopy16(codes + kHalfBytes + offset, source + kHalfBytes + offset);
    }
    if (unit_offset() < kUnitOutputs) {
      ptx::StartAsyncCopy16(stage.steps[unit_row()] + unit_offset(), unit + kUnitCodeBytes);
    }
  }

  // The tile's rows of tokens; zeros in place of what is past K. Rows past M keep what they held:
  // their sums are not stored.
  __device__ __forceinline__ void LoadTokens(Stage<Traits>& stage, bool is_int8_region) const {
    constexpr int kInt4BlockBytes = Traits::kIsPacked ? kRowBytes : kUnitChannels;
    const int first_column =
        half_ * kRowBytes + (is_int8_region ? (params_.num_int4_blocks + block_) * kUnitChannels
                                            : (block_ - params_.num_int8_blocks) * kInt4BlockBytes);
    const int column = first_column + token_offset();
    const int8_t* source = params_.codes + column + row_offset_;
    const int64_t row_step = params_.codes_row_stride * kTokenRows;
    uint8_t* const tokens = stage.tokens[0] + me_.group_thread * kChunkBytes;
    if (is_int8_region && first_column + kRowBytes > params_.num_inputs) {
      const int num_bytes = min(max(params_.num_inputs - column, 0), kChunkBytes);
#pragma unroll 1
      for (int i = 0; i < kTokenCopies; ++i) {
        // Where nothing is read the address still exists.
        if (i * kTokenRows < rows_left_) {
          ptx::StartAsyncCopy16(tokens + i * kTokenRows * kRowBytes,
                                num_bytes > 0 ? source + i * row_step : params_.codes, num_bytes);
        }
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kTokenCopies; ++i) {
      if (i * kTokenRows < rows_left_) {
        ptx::StartAsyncCopy16(tokens + i * kTokenRows * kRowBytes, source + i * row_step);
      }
    }
  }

  const GemmParams& params_;
  const Worker<Traits>& me_;
  Stage<Traits>* const ring_;
  uint32_t unit_offset_ = 0;  // Of this thread's first chunk of the block's unit.
  uint32_t row_offset_ = 0;   // Of this thread's first row of tokens, in bytes.
  int rows_left_ = 0;         // Up to M, from that row on.
  int piece_idx_ = 0;
  int block_ = 0;
  int end_ = 0;  // Of the piece's blocks; 0 after the last piece.
  int half_ = 0;
};

}  // namespace comet::sm80
