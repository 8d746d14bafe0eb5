#pragma once

#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/sm90_gemm_pipeline.cuh"

// Producers: a warp for weights and one for tokens, each filling its part of every stage. All lanes
// of a warp go through the loops, so that what they count stays in uniform registers; one copies.
// Addresses are ready before a stage is free: with wide tiles the ring is short, and every cycle
// between a stage's release and its copies counts.
namespace comet::sm90 {

__device__ __forceinline__ bool IsLeader() { return threadIdx.x % kWarpThreads == 0; }

// Weights never change, so those of the first stages are on their way before the kernel that writes
// the tokens has ended.
template <typename Traits>
__device__ void ProduceUnits(const GemmParams& params, const Work<Traits>& work,
                             SmemLayout<Traits>& smem) {
  const uint64_t policy = work.num_token_tiles == 1 ? ptx::kEvictFirst : ptx::kEvictNormal;
  RingCursor<Traits> cursor;
  for (int tile_idx = work.first_tile; tile_idx < work.num_tiles; tile_idx += work.tile_stride) {
    const Tile tile = work.TileOf(tile_idx);
    const uint8_t* units[Traits::kRowGroups];
#pragma unroll
    for (int row_group = 0; row_group < Traits::kRowGroups; ++row_group) {
      // Row groups past the last unit row load it again; nothing of theirs is stored.
      const int unit_row =
          min(tile.row_idx * Traits::kRowGroups + row_group, params.num_unit_rows - 1);
      units[row_group] =
          params.units + (int64_t{unit_row} * work.num_blocks + work.first_step) * kUnitBytes;
    }
    for (int round = 0; round < work.num_rounds; ++round) {
      const int num_bytes = work.NumSteps(round) * kUnitBytes;
      uint64_t* const full = &smem.full[cursor.stage_idx];
      ptx::Wait(&smem.empty[cursor.stage_idx], cursor.phase ^ 1);
      if (IsLeader()) {
        ptx::ArriveAndExpect(full, Traits::kRowGroups * num_bytes);
#pragma unroll
        for (int row_group = 0; row_group < Traits::kRowGroups; ++row_group) {
          ptx::CopyBytes(smem.units[cursor.stage_idx][row_group * Traits::kKGroups],
                         units[row_group], num_bytes, full, policy);
        }
      }
#pragma unroll
      for (int row_group = 0; row_group < Traits::kRowGroups; ++row_group) {
        units[row_group] += Traits::kSummands * kUnitBytes;
      }
      cursor.Advance();
    }
  }
}

template <typename Traits>
__device__ void ProduceTokens(const GemmParams& params, const Work<Traits>& work,
                              SmemLayout<Traits>& smem) {
  cuda::WaitForPreviousGrids();
  RingCursor<Traits> cursor;
  for (int tile_idx = work.first_tile; tile_idx < work.num_tiles; tile_idx += work.tile_stride) {
    const int first_token = work.TileOf(tile_idx).token_idx * Traits::kTileTokens;
    int first_step = work.first_step;
    for (int round = 0; round < work.num_rounds; ++round) {
      const int num_steps = work.NumSteps(round);
      uint64_t* const full = &smem.full[cursor.stage_idx];
      ptx::Wait(&smem.empty[cursor.stage_idx], cursor.phase ^ 1);
      if (IsLeader()) {
        ptx::ArriveAndExpect(full, num_steps * Traits::kTokenBytes);
#pragma unroll
        for (int i = 0; i < Traits::kKGroups; ++i) {
          if (i >= num_steps) break;
          const int block_idx =
              cuda::BlockOfStep(first_step + i, params.num_int4_blocks, params.num_int8_blocks);
          ptx::CopyBox(smem.tokens[cursor.stage_idx][i], &params.codes, block_idx * kUnitChannels,
                       first_token, full, ptx::kEvictNormal);
        }
      }
      first_step += Traits::kSummands;
      cursor.Advance();
    }
  }
}

}  // namespace comet::sm90
