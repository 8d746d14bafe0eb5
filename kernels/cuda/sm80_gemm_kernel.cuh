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
__device__ __forceinline__ void StoreFactors(const TokenScalars& scalars, const Worker<Traits>& me,
                                             SmemLayout<Traits>& smem) {
  if (me.group_thread >= Traits::kTileTokens) return;
  smem.exponents[me.k_group][me.group_thread] = static_cast<uint8_t>(scalars.exponent);
  if (me.k_group != (Traits::kHasFinisher ? Traits::kKGroups : 0)) return;
  constexpr bool kIsBiased = Traits::kConversion == Conversion::kInFragment;
  const int int4_sum = Traits::kIsPacked ? 0 : scalars.code_sum.y;
  smem.factors.scale[me.group_thread] = scalars.scale;
  smem.factors.excess[me.group_thread] =
      kIsBiased ? 128 * ((scalars.code_sum.x << scalars.exponent) + int4_sum) : 0;
}

// The INT8 region's sums so far, times 2^e of their token.
template <typename Traits>
__device__ __forceinline__ void ShiftSums(Sums<Traits>& acc, const SmemLayout<Traits>& smem,
                                          const Worker<Traits>& me) {
#pragma unroll
  for (int j = 0; j < Traits::kTokenFrags; ++j) {
    const int token = me.token_warp * Traits::kWarpTokens + 8 * j + me.lane_idx % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < 4; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[tile][j][i] <<= smem.exponents[me.k_group][token + i % 2];
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
                                           SmemLayout<Traits>& smem, Sums<Traits>& acc) {
#pragma unroll
  for (int i = 0; i < Traits::kFrags * 4; ++i) {
    acc[i / 4 / Traits::kTokenFrags][i / 4 % Traits::kTokenFrags][i % 4] = 0;
  }
  const auto [num_int8, num_int4] = BlocksOf<Traits>(params, piece, me.k_group);

  // Where there are registers, these are on their way during the multiplies.
  constexpr bool kLoadsAhead = Traits::kKGroups > 1;
  TokenScalars scalars;
  if (kLoadsAhead) scalars = LoadScalars<Traits>(params, piece, me.group_thread);
  MultiplyStages<false>(acc, 2 * num_int8, ring, params.sign_bits);
  if (!kLoadsAhead) scalars = LoadScalars<Traits>(params, piece, me.group_thread);
  me.SyncGroup();  // The factors before have been read.
  StoreFactors(scalars, me, smem);
  me.SyncGroup();
  if (piece.begin < params.num_int8_blocks) ShiftSums(acc, smem, Worker<Traits>());
  if constexpr (Traits::kIsPacked) {
    MultiplyStages<true>(acc, num_int4, ring, params.sign_bits);
  } else {
    MultiplyStages<false>(acc, 2 * num_int4, ring, params.sign_bits);
  }
}

// y of a piece's tile, if this CTA is the last to have sums of it.
template <typename Traits>
__device__ __forceinline__ void FinishPiece(const GemmParams& params, const Piece& piece,
                                            Sums<Traits>& acc, SmemLayout<Traits>& smem,
                                            const Worker<Traits>& me) {
  if (!IsWhole(params, piece) && !CollectPieces(params, piece, acc, smem, me)) return;
  if (params.is_half) {
    StoreTile<Traits, __half>(params, piece, acc, smem.factors, me);
  } else {
    StoreTile<Traits, float>(params, piece, acc, smem.factors, me);
  }
}

// Threads that meet have passed as many barriers, those of groups of their own included: racecheck
// orders accesses to shared memory by that number. Who lacks some would wait in any case.
template <typename Traits>
__device__ __forceinline__ void PassBarriers(const Worker<Traits>& me, int num) {
  if constexpr (Traits::kGroupThreads > kWarpThreads) {
#pragma unroll 1
    for (; num > 0; --num) me.SyncGroup();
  }
}
// CollectPieces()'s, where the sums are added in memory.
__device__ __forceinline__ int NumCollectBarriers(const GemmParams& params, const Piece& piece) {
  return IsWhole(params, piece) ? 0 : 2;
}
// What `group` has of the piece before its sums: a stage's each, and of the finisher, what it
// stored of the piece before after the others had gone on.
template <typename Traits>
__device__ __forceinline__ int NumBarriers(const GemmParams& params, int piece_idx,
                                           const Piece& piece, int group) {
  if (!Traits::kHasFinisher || group < Traits::kKGroups) {
    return BlocksOf<Traits>(params, piece, group).template num_stages<Traits>();
  }
  Piece before;
  FindPiece(params, piece_idx - 1, before);
  return piece_idx == 0 ? 0 : NumCollectBarriers(params, before);
}
// Until all groups have as many as the one that has most: the first, or the finisher.
template <typename Traits>
__device__ __forceinline__ void LevelBarriers(const GemmParams& params, int piece_idx,
                                              const Piece& piece, const Worker<Traits>& me) {
  int most = NumBarriers<Traits>(params, piece_idx, piece, 0);
  if (Traits::kHasFinisher) {
    most = max(most, NumBarriers<Traits>(params, piece_idx, piece, Traits::kKGroups));
  }
  PassBarriers(me, most - NumBarriers<Traits>(params, piece_idx, piece, me.k_group));
}

template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kConfig.ctas_per_sm)
    W4axGemmKernel(const __grid_constant__ GemmParams params) {
  extern __shared__ __align__(16) uint8_t smem_bytes[];
  SmemLayout<Traits>& smem = *reinterpret_cast<SmemLayout<Traits>*>(smem_bytes);
  const Worker<Traits> me;
  cuda::ReleaseNextGrids();
  cuda::WaitForPreviousGrids();

  std::conditional_t<Traits::kIsWide, WideRing<Traits>, Ring<Traits>> ring(params, me, smem);
  Piece piece;
  for (int piece_idx = 0; FindPiece(params, piece_idx, piece); ++piece_idx) {
    Sums<Traits> acc;
    Accumulate(params, piece, me, ring, smem, acc);
    ptx::Forget(piece_idx);
    FindPiece(params, piece_idx, piece);
    // Who this is, told anew: no register then holds what follows from it during the multiplies.
    const Worker<Traits> again;
    if constexpr (Traits::kKGroups > 1) LevelBarriers(params, piece_idx, piece, again);
    if constexpr (Traits::kHasFinisher) {
      PassSums(acc, smem, again, /*is_first_piece=*/piece_idx == 0);
      if (!again.is_finisher()) continue;
      FinishPiece(params, piece, acc, smem, again);
    } else {
      if constexpr (Traits::kKGroups > 1) {
        AddKGroups(acc, smem, again);
        if (again.k_group != 0) {
          PassBarriers(again, NumCollectBarriers(params, piece));
          continue;
        }
      }
      FinishPiece(params, piece, acc, smem, again);
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
