#pragma once

#include <cuda_fp16.h>

#include <type_traits>

#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/sm80_gemm_epilogue.cuh"
#include "kernels/cuda/sm80_gemm_loader.cuh"
#include "kernels/cuda/sm80_gemm_wide.cuh"

// y = x * W^T for W4Ax weights on Ampere and Ada, as y^T = W * x^T: weights are the operand of 16
// rows of mma.sync, tokens the one of 8 columns. INT4 blocks multiply raw codes of both; INT8
// blocks turn weights into bytes, in registers or, for warps of 64 tokens, in shared memory.
//
// Mapping  A persistent CTA takes pieces of tiles (work_splitter.h). Each k group's warps share a
//          ring of stages, filled by cp.async some stages ahead, also across pieces; a warp
//          multiplies 64 outputs x kWarpTokens tokens. K groups add their sums in shared memory,
//          by the first of them or by one more warp, the finisher; CTAs that share a tile theirs in
//          global memory, where the last one stores y.
// Traffic  HBM: weights once (4.06 bits each), tokens, y. L2 to SM: weights once a token tile,
//          tokens once a row tile. Shared memory, an INT4 block of 64 x kWarpTokens: 4,096 +
//          64 kWarpTokens bytes read, at 128 a clock and SM; tensor cores 8 clocks an mma.
// Limits   Token rows 16-byte aligned.
namespace comet::sm80 {

// One token's factors on their way from global to shared memory.
struct TokenScalars {
  float scale = 0.0f;
  int exponent = 0;
  int2 code_sum = {0, 0};
};

template <typename Traits>
__device__ __forceinline__ TokenScalars LoadScalars(const GemmParams& params, const Piece& piece,
                                                    int group_thread) {
  TokenScalars scalars;
  const int token = PlaceOf(params, piece.tile_idx).token * Traits::kTileTokens + group_thread;
  if (group_thread >= Traits::kTileTokens || token >= params.num_tokens) return scalars;
  scalars.scale = params.token_scale[token];
  scalars.exponent = params.exponent[token];
  scalars.code_sum = params.code_sum[token];
  return scalars;
}

template <typename Traits>
__device__ __forceinline__ void StoreFactors(const TokenScalars& scalars, int group_thread,
                                             TokenFactors<Traits::kTileTokens>& factors) {
  if (group_thread >= Traits::kTileTokens) return;
  constexpr bool kIsBiased = Traits::kConversion == Conversion::kInFragment;
  const int int4_sum = Traits::kIsPacked ? 0 : scalars.code_sum.y;
  factors.scale[group_thread] = scalars.scale;
  factors.exponent[group_thread] = static_cast<uint8_t>(scalars.exponent);
  factors.excess[group_thread] =
      kIsBiased ? 128 * ((scalars.code_sum.x << scalars.exponent) + int4_sum) : 0;
}

// The INT8 region's sums so far, times 2^e of their token.
template <typename Traits>
__device__ __forceinline__ void ShiftSums(Sums<Traits>& acc,
                                          const TokenFactors<Traits::kTileTokens>& factors,
                                          const Worker<Traits>& me) {
#pragma unroll
  for (int j = 0; j < Traits::kTokenFrags; ++j) {
    const int token = me.token_warp * Traits::kWarpTokens + 8 * j + me.lane_idx % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < 4; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[tile][j][i] <<= factors.exponent[token + i % 2];
    }
  }
}

// A group's stages: read in turn, and refilled behind the reads.
template <typename Traits>
class Ring {
 public:
  // Returns with the first stage there.
  __device__ Ring(const GemmParams& params, const Worker<Traits>& me, SmemLayout<Traits>& smem)
      : me_(me),
        begin_(ptx::SharedAddress(smem.ring[me.k_group])),
        read_(begin_),
        before_(begin_ + kLastOffset),
        loader_(params, me) {
    constexpr int kAhead = Traits::kIsPipelined ? Traits::kStages - 1 : 1;
    for (int i = 0; i < kAhead; ++i) Load(begin_ + i * kStageBytes);
    ptx::WaitAsyncCopies<kAhead - 1>();
    me_.SyncGroup();
  }

  __device__ __forceinline__ StageReader<Traits> Reader() const { return {read_, me_}; }

  // To the next stage: waits until it is there for all threads.
  __device__ __forceinline__ void Advance() {
    fill_ = before_;
    before_ = read_;
    read_ = read_ == begin_ + kLastOffset ? begin_ : read_ + kStageBytes;
    if constexpr (Traits::kIsPipelined) {
      ptx::WaitAsyncCopies<Traits::kStages - 3>();
    } else {
      Load(read_);
      ptx::WaitAsyncCopies<0>();
    }
    me_.SyncGroup();
  }

  // After Advance(): fills the stage before the one that was left, which all have read.
  __device__ __forceinline__ void StartLoad() {
    if constexpr (Traits::kIsPipelined) StartLoad(fill_);
  }
  __device__ __forceinline__ void FinishLoad() {
    if constexpr (Traits::kIsPipelined) FinishLoad(fill_);
  }

 private:
  static_assert(Traits::kStages >= 3);
  static constexpr uint32_t kStageBytes = sizeof(Stage<Traits>);
  static constexpr uint32_t kLastOffset = (Traits::kStages - 1) * kStageBytes;

  __device__ __forceinline__ void Load(uint32_t stage) {
    StartLoad(stage);
    FinishLoad(stage);
  }
  __device__ __forceinline__ void StartLoad(uint32_t stage) {
    loader_.Next();
#pragma unroll
    for (int i = 0; i < Loader<Traits>::kCopies; ++i) loader_.Copy(i, PlaceIn(stage));
  }
  // Ends the group of that stage's copies, an empty one after the last stage, as the waits count
  // groups.
  __device__ __forceinline__ void FinishLoad(uint32_t stage) {
    loader_.Finish(/*num_stages=*/1, PlaceIn(stage));
    ptx::CommitAsyncCopies();
  }
  __device__ __forceinline__ uint32_t PlaceIn(uint32_t stage) const {
    return stage + me_.group_thread * kChunkBytes;
  }

  const Worker<Traits>& me_;
  // Shared addresses: of the first stage, of the one that is read, of the one read before it, and
  // of the one to be filled.
  const uint32_t begin_;
  uint32_t read_;
  uint32_t before_;
  uint32_t fill_ = 0;
  Loader<Traits> loader_;
};

// Multiplies `num_stages` stages of one region.
template <bool kIsInt4, typename Traits>
__device__ __forceinline__ void MultiplyStages(Sums<Traits>& acc, int num_stages,
                                               WideRing<Traits>& ring, uint32_t sign_bits) {
  if (num_stages > 0) MultiplyWide<kIsInt4>(acc, num_stages, ring, sign_bits);
}
template <bool kIsInt4, typename Traits>
__device__ __forceinline__ void MultiplyStages(Sums<Traits>& acc, int num_stages,
                                               Ring<Traits>& ring, uint32_t sign_bits) {
  if (num_stages == 0) return;
  Operands<Traits, kIsInt4> operands(ring.Reader());
#pragma unroll 1
  for (; num_stages > 0; --num_stages) {
    if constexpr (kIsInt4) {
      MultiplyInt4<Traits>(acc, operands, ring);
    } else {
      MultiplyInt8<Traits>(acc, operands, ring, sign_bits);
    }
  }
}

// The sums of this group's blocks of a piece.
template <typename Traits, typename RingType>
__device__ __forceinline__ void Accumulate(const GemmParams& params, const Piece& piece,
                                           const Worker<Traits>& me, RingType& ring,
                                           TokenFactors<Traits::kTileTokens>& factors,
                                           Sums<Traits>& acc) {
#pragma unroll
  for (int i = 0; i < Traits::kFrags * 4; ++i) {
    acc[i / 4 / Traits::kTokenFrags][i / 4 % Traits::kTokenFrags][i % 4] = 0;
  }
  const int int8_end = min(piece.end, params.num_int8_blocks);
  const int first = piece.begin + me.k_group;
  const int num_int8 = BlocksBelow<Traits>(int8_end, first);
  const int num_int4 = BlocksBelow<Traits>(piece.end, first + num_int8 * Traits::kKGroups);

  MultiplyStages<false>(acc, 2 * num_int8, ring, params.sign_bits);
  const TokenScalars scalars = LoadScalars<Traits>(params, piece, me.group_thread);
  me.SyncGroup();  // The factors before have been read.
  StoreFactors<Traits>(scalars, me.group_thread, factors);
  me.SyncGroup();
  if (piece.begin < params.num_int8_blocks) ShiftSums(acc, factors, me);
  if constexpr (Traits::kIsPacked) {
    MultiplyStages<true>(acc, num_int4, ring, params.sign_bits);
  } else {
    MultiplyStages<false>(acc, 2 * num_int4, ring, params.sign_bits);
  }
}

// y of a piece's tile, if this CTA is the last to have sums of it.
template <typename Traits>
__device__ __forceinline__ void FinishPiece(const GemmParams& params, const Piece& piece,
                                            Sums<Traits>& acc,
                                            const TokenFactors<Traits::kTileTokens>& factors,
                                            SmemLayout<Traits>& smem, const Worker<Traits>& me) {
  const bool is_whole = piece.end - piece.begin == params.num_int8_blocks + params.num_int4_blocks;
  if (!is_whole && !CollectPieces(params, piece, acc, smem, me)) return;
  if (params.is_half) {
    StoreTile<Traits, __half>(params, piece, acc, factors, me);
  } else {
    StoreTile<Traits, float>(params, piece, acc, factors, me);
  }
}

// What the warp that has no blocks does.
template <typename Traits>
__device__ __forceinline__ void FinishPieces(const GemmParams& params, SmemLayout<Traits>& smem,
                                             const Worker<Traits>& me) {
  TokenFactors<Traits::kTileTokens>& factors = smem.factors[Traits::kKGroups];
  Piece piece;
  bool has_piece = FindPiece(params, 0, piece);
  for (int piece_idx = 0; has_piece; ++piece_idx) {
    StoreFactors<Traits>(LoadScalars<Traits>(params, piece, me.group_thread), me.group_thread,
                         factors);
    Piece next;
    has_piece = FindPiece(params, piece_idx + 1, next);
    Sums<Traits> acc;
    TakeSums(acc, smem, me, /*is_last=*/!has_piece);
    FinishPiece(params, piece, acc, factors, smem, me);
    __syncwarp();  // The factors have been read.
    piece = next;
  }
}

template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kConfig.ctas_per_sm)
    W4axGemmKernel(const __grid_constant__ GemmParams params) {
  extern __shared__ __align__(16) uint8_t smem_bytes[];
  SmemLayout<Traits>& smem = *reinterpret_cast<SmemLayout<Traits>*>(smem_bytes);
  const Worker<Traits> me;
  cuda::ReleaseNextGrids();
  cuda::WaitForPreviousGrids();
  if constexpr (Traits::kHasFinisher) {
    if (me.k_group == Traits::kKGroups) return FinishPieces(params, smem, me);
  }

  TokenFactors<Traits::kTileTokens>& factors = smem.factors[me.k_group];
  std::conditional_t<Traits::kIsWide, WideRing<Traits>, Ring<Traits>> ring(params, me, smem);
  Piece piece;
  for (int piece_idx = 0; FindPiece(params, piece_idx, piece); ++piece_idx) {
    Sums<Traits> acc;
    Accumulate(params, piece, me, ring, factors, acc);
    if constexpr (Traits::kHasFinisher) {
      PassSums(acc, smem, me, /*is_first=*/piece_idx == 0);
    } else {
      ptx::Forget(piece_idx);
      FindPiece(params, piece_idx, piece);
      if constexpr (Traits::kKGroups > 1) {
        AddKGroups(acc, smem, me);
        if (me.k_group != 0) continue;
      }
      FinishPiece(params, piece, acc, factors, smem, me);
    }
  }
}

template <typename Traits>
cudaError_t PrepareGemm() {
  return cudaFuncSetAttribute(W4axGemmKernel<Traits>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              sizeof(SmemLayout<Traits>));
}

template <typename Traits>
cudaError_t LaunchGemm(const GemmParams& params, cudaStream_t stream) {
  static_assert(sizeof(SmemLayout<Traits>) <= Traits::kConfig.smem_kb << 10);
  W4axGemmKernel<Traits><<<static_cast<unsigned>(params.split.num_ctas), Traits::kThreads,
                           sizeof(SmemLayout<Traits>), stream>>>(params);
  return cudaGetLastError();
}

template <typename Traits>
GemmInstance InstanceOf() {
  return {.config = Traits::kConfig,
          .prepare = PrepareGemm<Traits>,
          .launch = LaunchGemm<Traits>,
          .partial_sums = Traits::kConfig.adds_in_memory() ? Traits::kTileSums : 0,
          .slot_sums = Traits::kTileSums};
}

template <int kIdx, bool kIsPacked>
GemmInstance MakeGemmInstance() {
  return InstanceOf<GemmTraits<kIdx, kIsPacked>>();
}

}  // namespace comet::sm80
