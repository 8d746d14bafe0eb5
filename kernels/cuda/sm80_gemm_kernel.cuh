#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/sm80_gemm_epilogue.cuh"

// y = x * W^T for W4Ax weights on Ampere and Ada, as y^T = W * x^T: weights are the operand of 16
// rows of mma.sync, tokens the one of 8 columns. INT4 blocks multiply raw codes of both; INT8
// blocks turn weights into bytes in registers.
//
// Mapping  A persistent CTA takes pieces of tiles (work_splitter.h). Each k group's warps share a
//          ring of stages, filled by cp.async some stages ahead, also across pieces; a warp
//          multiplies 64 outputs x kWarpTokens tokens. K groups add their sums in shared memory,
//          CTAs that share a tile theirs in global memory, where the last one stores y.
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

// A group's stages, waited for and refilled in turn.
template <typename Traits>
class Ring {
 public:
  __device__ Ring(const GemmParams& params, const Worker<Traits>& me, SmemLayout<Traits>& smem)
      : me_(me),
        stages_(smem.ring[me.k_group]),
        loader_(params, me, &smem.loader[threadIdx.x / kWarpThreads]),
        // Counts stages, from where it is this team's turn at multiples of the number of teams.
        turn_(Traits::kTeams - static_cast<unsigned>(me.group_thread) / Traits::kTeamThreads) {
    constexpr int kAhead = Traits::kIsPipelined ? Traits::kStages - 1 : 0;
    for (int i = 0; i < kAhead; ++i) Load(i, turn_ + static_cast<unsigned>(i));
  }

  // Calls `multiply` with the next stage.
  template <typename Multiply>
  __device__ __forceinline__ void Next(const Multiply& multiply) {
    if constexpr (Traits::kIsPipelined) {
      // Groups that this team has begun since the one of this stage.
      constexpr int kNumLater = (Traits::kStages - 2) / Traits::kTeams;
      if (IsTurn(turn_)) ptx::WaitAsyncCopies<kNumLater>();
      me_.SyncGroup();  // All see this stage, and have left the one before.
      const int before = idx_ == 0 ? Traits::kStages - 1 : idx_ - 1;
      // A warp by itself loads first, as nothing else covers the latency. Of several, those that
      // are done load while others multiply.
      if constexpr (Traits::kTeams == 1) Load(before, 0);
      multiply(stages_[idx_]);
      if constexpr (Traits::kTeams > 1) Load(before, turn_ + Traits::kStages - 1);
    } else {
      me_.SyncGroup();
      Load(idx_, turn_);
      ptx::WaitAsyncCopies<0>();
      me_.SyncGroup();
      multiply(stages_[idx_]);
    }
    idx_ = idx_ + 1 == Traits::kStages ? 0 : idx_ + 1;
    ++turn_;
  }

 private:
  __device__ __forceinline__ static bool IsTurn(unsigned turn) {
    return turn % Traits::kTeams == 0;
  }

  // Each of a team's turns is one group of copies, an empty one after the last stage: the waits
  // count groups.
  __device__ __forceinline__ void Load(int idx, unsigned turn) {
    if (IsTurn(turn)) {
      if (loader_.has_stage()) loader_.Load(stages_[idx]);
      ptx::CommitAsyncCopies();
    }
    if (loader_.has_stage()) loader_.Advance();
  }

  const Worker<Traits>& me_;
  Stage<Traits>* const stages_;
  Loader<Traits> loader_;
  unsigned turn_;
  int idx_ = 0;
};

// The sums of this group's blocks of a piece.
template <typename Traits>
__device__ __forceinline__ void Accumulate(const GemmParams& params, const Piece& piece,
                                           const Worker<Traits>& me, Ring<Traits>& ring,
                                           TokenFactors<Traits::kTileTokens>& factors,
                                           Sums<Traits>& acc) {
#pragma unroll
  for (int i = 0; i < Traits::kFrags * 4; ++i) {
    acc[i / 4 / Traits::kTokenFrags][i / 4 % Traits::kTokenFrags][i % 4] = 0;
  }
  int half = 2 * (piece.begin + me.k_group);  // Of a block, in the order of the tile's.
  // One loop for both regions, so that each kind of product and the loads are there once.
#pragma unroll 1
  for (int region = 0; region < 2; ++region) {
    const bool is_int8_region = region == 0;
    const int end = is_int8_region ? min(piece.end, params.num_int8_blocks) : piece.end;
#pragma unroll 1
    while (half < 2 * end) {
      ring.Next([&](const Stage<Traits>& stage) {
        if (!Traits::kIsPacked || is_int8_region) {
          MultiplyInt8(acc, stage, me);
          half += half % 2 == 0 ? 1 : 2 * Traits::kKGroups - 1;
        } else {
          MultiplyInt4(acc, stage, me);
          half += 2 * Traits::kKGroups;
        }
      });
    }
    if (!is_int8_region) break;
    const TokenScalars scalars = LoadScalars<Traits>(params, piece, me.group_thread);
    me.SyncGroup();  // The factors before have been read.
    StoreFactors<Traits>(scalars, me.group_thread, factors);
    me.SyncGroup();
    if (piece.begin < params.num_int8_blocks) ShiftSums(acc, factors, me);
  }
}

template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kConfig.ctas_per_sm)
    W4axGemmKernel(const __grid_constant__ GemmParams params) {
  extern __shared__ __align__(16) uint8_t smem_bytes[];
  SmemLayout<Traits>& smem = *reinterpret_cast<SmemLayout<Traits>*>(smem_bytes);
  const Worker<Traits> me;
  TokenFactors<Traits::kTileTokens>& factors = smem.factors[me.k_group];
  cuda::ReleaseNextGrids();
  cuda::WaitForPreviousGrids();

  Ring<Traits> ring(params, me, smem);
  Piece piece;
  for (int piece_idx = 0; FindPiece(params, piece_idx, piece); ++piece_idx) {
    Sums<Traits> acc;
    Accumulate(params, piece, me, ring, factors, acc);
    ptx::Forget(piece_idx);
    FindPiece(params, piece_idx, piece);
    if constexpr (Traits::kKGroups > 1) {
      AddKGroups(acc, smem, me, /*is_first_piece=*/piece_idx == 0);
      if (me.k_group != 0) continue;
    }
    const bool is_whole =
        piece.end - piece.begin == params.num_int8_blocks + params.num_int4_blocks;
    if (!is_whole && !CollectPieces(params, piece, acc, smem, me)) continue;
    if (params.is_half) {
      StoreTile<Traits, __half>(params, piece, acc, factors, me);
    } else {
      StoreTile<Traits, float>(params, piece, acc, factors, me);
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
  constexpr int kSmemBytesMax = 99 << 10;  // Of a CTA, on every card from sm_80 on.
  static_assert(sizeof(SmemLayout<Traits>) <= kSmemBytesMax);
  W4axGemmKernel<Traits><<<static_cast<unsigned>(params.split.num_ctas), Traits::kThreads,
                           sizeof(SmemLayout<Traits>), stream>>>(params);
  return cudaGetLastError();
}

template <typename Traits>
GemmInstance InstanceOf() {
  return {.config = Traits::kConfig,
          .prepare = PrepareGemm<Traits>,
          .launch = LaunchGemm<Traits>,
          .partial_bytes = int64_t{Traits::kFrags} * Traits::kGroupThreads * 16};
}

template <int kIdx, bool kIsPacked>
GemmInstance MakeGemmInstance() {
  return InstanceOf<GemmTraits<kIdx, kIsPacked>>();
}

}  // namespace comet::sm80
