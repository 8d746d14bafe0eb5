#pragma once

#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/sm90_gemm_consumer.cuh"
#include "kernels/cuda/sm90_gemm_epilogue.cuh"
#include "kernels/cuda/sm90_gemm_producer.cuh"

// y = x * W^T for W4Ax weights on Hopper, as y^T = W * x^T: weights are the register operand of
// wgmma, tokens the shared one.
//
// Mapping  A persistent CTA takes whole tiles of 64 * row_groups outputs x tile_tokens tokens. Two
//          warps of the first warpgroup keep a ring of stages filled with weight units and token
//          codes; each other warpgroup turns its unit into bytes, multiplies, and frees the stage.
//          Warpgroups that share outputs (k_groups, cluster_k) take turns at the blocks and add
//          their sums in shared memory.
// Traffic  HBM: weights once (4.06 bits each), tokens, y. L2 to SM: weights once a token tile,
//          tokens once a row tile. wgmma: 64 x 32 x N products in N / 2 cycles of an SM.
// Limits   Token rows 16-byte aligned, for the copy engine.
namespace comet::sm90 {

// What TokenFactors holds of one token, on its way from global to shared memory.
struct TokenScalars {
  float scale = 0.0f;
  int exponent = 0;
  int2 code_sum = {0, 0};
};

template <typename Traits>
__device__ __forceinline__ TokenScalars LoadScalars(const GemmParams& params, Tile tile,
                                                    int thread_idx) {
  TokenScalars scalars;
  const int token = tile.token_idx * Traits::kTileTokens + thread_idx;
  if (thread_idx >= Traits::kTileTokens || token >= params.num_tokens) return scalars;
  scalars.scale = params.token_scale[token];
  scalars.exponent = params.exponent[token];
  scalars.code_sum = params.code_sum[token];
  return scalars;
}

template <typename Traits>
__device__ __forceinline__ void StoreFactors(const TokenScalars& scalars, int thread_idx,
                                             TokenFactors<Traits>& factors) {
  if (thread_idx >= Traits::kTileTokens) return;
  factors.scale[thread_idx] = scalars.scale;
  factors.exponent[thread_idx] = scalars.exponent;
  if constexpr (Traits::kIsBiased) {
    factors.excess[thread_idx] =
        128 * ((scalars.code_sum.x << scalars.exponent) + scalars.code_sum.y);
  }
}

template <typename Traits>
__device__ void Consume(const GemmParams& params, const Work<Traits>& work,
                        SmemLayout<Traits>& smem, int warpgroup_idx) {
  const Consumer<Traits> me(warpgroup_idx);
  Multiplier<Traits> multiplier(smem, me);
  Tile tile = work.TileOf(work.first_tile);
  cuda::WaitForPreviousGrids();
  // On their way while the tile before is stored.
  TokenScalars scalars[Traits::kThreadTokens];
  const auto load_scalars = [&](Tile of_tile) {
#pragma unroll
    for (int i = 0; i < Traits::kThreadTokens; ++i) {
      scalars[i] =
          LoadScalars<Traits>(params, of_tile, me.group_thread() + i * Traits::kGroupThreads);
    }
  };
  load_scalars(tile);
  int parity = 0;
  for (int tile_idx = work.first_tile; tile_idx < work.num_tiles; tile_idx += work.tile_stride) {
    TokenFactors<Traits>& factors = smem.factors[me.row_group][parity];
    parity ^= 1;
#pragma unroll
    for (int i = 0; i < Traits::kThreadTokens; ++i) {
      StoreFactors(scalars[i], me.group_thread() + i * Traits::kGroupThreads, factors);
    }
    // After it the factors are whole, and all have left the tile before the last: its factors and
    // the partial sums may be overwritten.
    ptx::SyncThreads(kFirstGroupBarrier + me.row_group, Traits::kGroupThreads);

    const int output = tile.row_idx * kUnitOutputs * Traits::kRowGroups + me.first_output;
    OutputFactors outputs;
    if constexpr (Traits::kLoadsOutputsEarly) outputs = LoadOutputFactors(params, output);
    int32_t acc[Traits::kTileTokens / 2];
    Accumulate(params, work, me, factors, multiplier, acc);
    Tile next_tile = tile;
    if (tile_idx + work.tile_stride < work.num_tiles) {
      next_tile = work.TileOf(tile_idx + work.tile_stride);
      load_scalars(next_tile);
    }
    if constexpr (Traits::kSummands > 1) {
      if constexpr (!Traits::kLoadsOutputsEarly) outputs = LoadOutputFactors(params, output);
      AddPartials(work, me, smem, acc);
    }
    StoreY(params, work, me, tile, factors, outputs, smem, parity, acc);
    tile = next_tile;
  }
  if constexpr (Traits::kBoxTokens > 0) ptx::WaitStores();
}

template <int kIdx>
__global__ void __launch_bounds__(GemmTraits<kIdx>::kThreads, 1)
    W4axGemmKernel(const __grid_constant__ GemmParams params) {
  using Traits = GemmTraits<kIdx>;
  extern __shared__ __align__(1024) uint8_t smem_bytes[];
  SmemLayout<Traits>& smem = *reinterpret_cast<SmemLayout<Traits>*>(smem_bytes);
  const int thread_idx = static_cast<int>(threadIdx.x);
  // The shuffle tells the compiler that it is the same in a warp: what follows from it then stays
  // in uniform registers.
  const int warpgroup_idx = __shfl_sync(0xffffffff, thread_idx / kWarpgroupThreads, 0);

  cuda::ReleaseNextGrids();
  if (thread_idx == 0) {
    ptx::PrefetchTensorMap(&params.codes);
    for (int i = 0; i < Traits::kStages; ++i) {
      ptx::InitBarrier(&smem.full[i], kProducerWarps);
      ptx::InitBarrier(&smem.empty[i], Traits::kConsumerWarps);
    }
    ptx::InitBarrier(&smem.partials_full, Traits::kClusterK * Traits::kConsumerThreads);
    ptx::FenceBarrierInit();
  }
  if constexpr (Traits::kClusterK > 1) {
    ptx::ArriveAtCluster();
    ptx::WaitForCluster();
  } else {
    __syncthreads();
  }

  const Work<Traits> work(params);
  if (warpgroup_idx == 0) {
    ptx::DecreaseRegisters<Traits::kProducerRegisters>();
    const int warp_idx = __shfl_sync(0xffffffff, thread_idx / kWarpThreads, 0);
    if (warp_idx == 0) ProduceUnits(params, work, smem);
    if (warp_idx == 1) ProduceTokens(params, work, smem);
  } else {
    ptx::IncreaseRegisters<Traits::kConsumerRegisters>();
    Consume(params, work, smem, warpgroup_idx - 1);
  }
}

template <int kIdx>
cudaError_t PrepareGemm() {
  return cudaFuncSetAttribute(W4axGemmKernel<kIdx>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              sizeof(SmemLayout<GemmTraits<kIdx>>));
}

template <int kIdx>
cudaError_t LaunchGemm(const GemmParams& params, int num_sms, cudaStream_t stream) {
  using Traits = GemmTraits<kIdx>;
  static_assert(sizeof(SmemLayout<Traits>) <= kSmemBytesMax);
  const int num_tiles = CeilDiv(params.num_outputs, kUnitOutputs * Traits::kRowGroups) *
                        CeilDiv(params.num_tokens, Traits::kTileTokens);
  // A cluster takes one tile: its partial sums have one place.
  const int num_ctas =
      Traits::kClusterK == 1 ? std::min(num_tiles, num_sms) : num_tiles * Traits::kClusterK;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {Traits::kClusterK, 1, 1};
  const cudaLaunchConfig_t launch = {
      .gridDim = {static_cast<unsigned>(num_ctas), 1, 1},
      .blockDim = {Traits::kThreads, 1, 1},
      .dynamicSmemBytes = sizeof(SmemLayout<Traits>),
      .stream = stream,
      .attrs = attributes,
      .numAttrs = Traits::kClusterK == 1 ? 1u : 2u,
  };
  return cudaLaunchKernelEx(&launch, W4axGemmKernel<kIdx>, params);
}

template <int kIdx>
GemmInstance MakeGemmInstance() {
  return {.config = kGemmConfigs[kIdx], .prepare = PrepareGemm<kIdx>, .launch = LaunchGemm<kIdx>};
}

}  // namespace comet::sm90
