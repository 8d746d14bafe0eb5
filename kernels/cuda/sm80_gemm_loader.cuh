#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_async_copy.cuh"
#include "kernels/cuda/device/ptx_bits.cuh"
#include "kernels/cuda/device/ptx_pointer.cuh"
#include "kernels/cuda/sm80_gemm_pipeline.cuh"

// The loads of a ring of stages, which run ahead of the products.
namespace comet::sm80 {

// Where a k group's stages come from, in the order of the products but ahead of them. A block whose
// tokens are INT8 takes two stages, one half of its channels each. A run is the stages of one
// region of a piece. All of a group's threads copy equal parts of each stage.
//
// The wide loop turns INT8 weights into bytes where they lie: a thread its own chunks of the first
// half, which thus become a chunk of either half; until then the chunk in the second half holds
// their gammas.
template <typename Traits>
class Loader {
 public:
  __device__ Loader(const GemmParams& params, const Worker<Traits>& me) : params_(params), me_(me) {
    if (!me.is_finisher()) StartPiece();
  }

  static constexpr int kCopyBytes = Traits::kGroupThreads * kChunkBytes;  // A chunk a thread.
  static constexpr int kRowThreads = Traits::kGroupThreads / Traits::kRowWarps;
  static constexpr int kRowCopyBytes = kRowThreads * kChunkBytes;
  static constexpr int kHalfBytes = kUnitCodeBytes / 2;
  static constexpr int kHalfCopies = kHalfBytes / kRowCopyBytes;            // Of half a unit.
  static constexpr int kTokenRows = Traits::kGroupThreads / kChunksPerRow;  // At a time.
  static constexpr int kTokenCopies = Traits::kTileTokens / kTokenRows;
  static constexpr int kCopies = 2 * kHalfCopies + 1 + kTokenCopies;  // Of a stage, a thread's.

  // Goes to the next stage. No branch here nor in Copy(), as they stand among the multiplies.
  __device__ __forceinline__ void Next() {
    ptx::Advance(half_, half_step_);
    half_step_ = ptx::FlipBits<kStepFlip>(half_step_, flips_);
    if constexpr (Traits::kIsWide) second_ = ptx::FlipBits<kSecondFlip>(second_, flips_);
    if constexpr (Traits::kKGroups > 1) {
      codes_ += code_step_;
      code_step_ = code_steps_ - code_step_;
    } else {
      ptx::Advance(codes_, kRowBytes);
    }
  }

  // Starts the stage's i-th copy, if it has it; `place`: the shared address of this thread's first
  // chunk.
  __device__ __forceinline__ void Copy(int i, uint32_t place) const {
    if (i < 2 * kHalfCopies) {
      const bool is_any = i < kHalfCopies + (Traits::kIsWide ? 1 : 0);
      ptx::StartAsyncCopy16If(wanted_, is_any ? kAnyBit : kBlocksBit, place + i * kCopyBytes,
                              Traits::kIsWide && i == kHalfCopies
                                  ? half_ + second_ + (kChunkBytes - kHalfBias)
                                  : half_ + (i * kRowCopyBytes - kHalfBias));
    } else if (i == 2 * kHalfCopies) {
      const bool is_second = !Traits::kIsWide && half_step_ == kSecondStep;
      ptx::StartAsyncCopy16If(
          wanted_, kGammasBit,
          place + kGammas - static_cast<uint32_t>((unit_row() + 1) * kLastChunks),
          half_ - kHalfBias + (is_second ? kHalfBytes : 2 * kHalfBytes) - kLastChunks);
    } else {
      const int n = i - 2 * kHalfCopies - 1;
      ptx::StartAsyncCopy16If(
          wanted_, kTokensBit + n, place + kTokens + n * kCopyBytes,
          n == 0 ? codes_
                 : ptx::PointerAt(codes_, params_.codes_copy_stride, static_cast<uint32_t>(n)));
    }
  }

  // After so many stages, at the latest, Finish() must follow.
  __device__ __forceinline__ int StagesBeforeFinish() const {
    return run_ == kNone ? kStagesMax : run_ & kIsShort ? 1 : stages_left_;
  }

  // What is rare, after the copies of `num_stages` stages, the last one at `place`: tokens of a
  // stage that K may end in; the next run.
  __device__ __forceinline__ void Finish(int num_stages, uint32_t place) {
    if (run_ == kNone) return;
    if (run_ & kIsShort) StartShortTokens(place);
    stages_left_ -= num_stages;
    if (stages_left_ == 0) NextRun();
  }

 private:
  // What a run is: whole blocks of packed codes, or halves of blocks of bytes, where K may be short
  // of the last; and whether it is the piece's INT8 region. Or there is none.
  static constexpr int kBlocks = 0;
  static constexpr int kIsHalves = 1;
  static constexpr int kIsShort = 2;
  static constexpr int kIsInt8Region = 4;
  static constexpr int kNone = 8;
  static constexpr int kStagesMax = 1 << 30;

  static constexpr uint32_t kGammas = offsetof(Stage<Traits>, gammas);
  static constexpr uint32_t kTokens = offsetof(Stage<Traits>, tokens);
  static_assert(kHalfCopies * kRowCopyBytes == kHalfBytes);
  static_assert(kTokenCopies * kTokenRows == Traits::kTileTokens);

  // From a block's second half to the next block.
  static constexpr int kSecondStep = Traits::kKGroups * kUnitBytes - kHalfBytes;
  static constexpr int kStepFlip = kHalfBytes ^ kSecondStep;
  static constexpr int kSecondFlip = kHalfBytes;
  // half_ is that far on, so that the offsets of what is copied fit an instruction's 12 bits.
  static constexpr int kHalfBias = kHalfBytes - kChunkBytes;
  // The last threads of a row of units copy its gammas.
  static constexpr int kLastChunks = kRowCopyBytes - kUnitOutputs;

  // Of wanted_: copies of any stage, of whole blocks alone, of gammas and of each row of tokens.
  static constexpr int kAnyBit = 1;
  static constexpr int kGammasBit = 2;
  static constexpr int kTokensBit = 3;
  static constexpr int kBlocksBit = kTokensBit + kTokenCopies;

  // What this thread copies, by its index in its group.
  __device__ __forceinline__ unsigned thread() const { return me_.group_thread; }
  __device__ __forceinline__ int unit_row() const {
    return static_cast<int>(thread() / unsigned{kRowThreads});
  }
  __device__ __forceinline__ int unit_offset() const {
    return static_cast<int>(thread() % unsigned{kRowThreads} * kChunkBytes);
  }
  // Of the 16 gammas that the outputs of this thread's chunks are among.
  __device__ __forceinline__ int gammas_offset() const {
    return static_cast<int>(me_.lane_idx / 8 * kChunkBytes);
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
    run_ = kNone;
    wanted_ = 0;
  }

  __device__ void StartRun(const Piece& piece, int block) {
    const bool is_int8_region = block < params_.num_int8_blocks;
    const int region_end = is_int8_region ? min(piece.end, params_.num_int8_blocks) : piece.end;
    const int num_blocks = BlocksBelow<Traits>(region_end, block);
    const bool is_short = params_.num_inputs % int{kUnitChannels} != 0;
    // Steps lead to the first stage from the one before it, which there need not be.
    if (Traits::kIsPacked && !is_int8_region) {
      run_ = kBlocks;
      stages_left_ = num_blocks;
      flips_ = 0;
      half_step_ = Traits::kKGroups * kUnitBytes;
      second_ = kHalfBytes - kChunkBytes;
      code_step_ = Traits::kKGroups * kRowBytes;
      code_steps_ = 2 * code_step_;
    } else {
      run_ = kIsHalves | (is_short ? kIsShort : 0) | (is_int8_region ? kIsInt8Region : 0);
      stages_left_ = 2 * num_blocks;
      flips_ = ~0u;
      half_step_ = kSecondStep;
      // To the 16 gammas that this thread's own are among.
      second_ = kHalfBytes - kChunkBytes - unit_offset() + gammas_offset();
      code_step_ = (Traits::kKGroups - 1) * kUnitChannels + kRowBytes;
      code_steps_ = code_step_ + kRowBytes;
    }
    // A row of units past the last is the last again: its sums are not stored.
    const TilePlace tile = PlaceOf(params_, piece.tile_idx);
    const int row = min(tile.row * Traits::kRowWarps + unit_row(), params_.num_unit_rows - 1);
    const int blocks_of_row = params_.num_int8_blocks + params_.num_int4_blocks;
    half_ = params_.units + (int64_t{row} * blocks_of_row + block) * kUnitBytes + unit_offset() +
            kHalfBias - half_step_;
    const int token = tile.token * Traits::kTileTokens + token_row();
    SetWanted(run_ & kIsShort ? 0 : params_.num_tokens - token);
    constexpr int kInt4BlockBytes = Traits::kIsPacked ? kRowBytes : kUnitChannels;
    const int column = is_int8_region ? (params_.num_int4_blocks + block) * kUnitChannels
                                      : (block - params_.num_int8_blocks) * kInt4BlockBytes;
    codes_ =
        params_.codes + token * params_.codes_row_stride + column + token_offset() - code_step_;
  }

  // Which copies this run's stages have, of tokens `rows_left` from this thread's first row on.
  // Rows past M keep what they held: their sums are not stored.
  __device__ void SetWanted(int rows_left) {
    const bool is_blocks = run_ == kBlocks;
    const bool has_gammas = unit_offset() >= kLastChunks && (is_blocks || !Traits::kIsWide);
    wanted_ =
        1u << kAnyBit | (is_blocks ? 1u << kBlocksBit : 0) | (has_gammas ? 1u << kGammasBit : 0);
#pragma unroll
    for (int n = 0; n < kTokenCopies; ++n) {
      if (n * kTokenRows < rows_left) wanted_ |= 1u << (kTokensBit + n);
    }
  }

  // Of tokens, where K is no whole number of blocks and INT8 stages may pass it: zeros from there
  // on.
  __device__ void StartShortTokens(uint32_t place) const {
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
        ptx::StartAsyncCopy16(place + kTokens + i * kCopyBytes,
                              num_bytes > 0 ? source : params_.codes, num_bytes);
      }
    }
  }

  const GemmParams& params_;
  const Worker<Traits>& me_;
  int piece_idx_ = 0;  // Of the run in hand.
  // The stage copied last: this thread's first chunk of its half block or block of weights, how far
  // it is from there to the next, and to what it copies to the second half, less a chunk, so that
  // one bit tells a block's halves; its first chunk of tokens, how far it is to the next and to
  // that after the next.
  const uint8_t* half_ = nullptr;
  uint32_t half_step_ = 0;
  uint32_t second_ = 0;
  uint32_t flips_ = 0;  // All bits where steps alternate between a block's halves.
  const int8_t* codes_ = nullptr;
  uint32_t code_step_ = kRowBytes;
  uint32_t code_steps_ = 0;
  uint32_t wanted_ = 0;  // Copies, by the bits above; no tokens where Finish() copies them.
  int stages_left_ = 0;  // Of this run, to be copied.
  int run_ = kNone;
};

}  // namespace comet::sm80
