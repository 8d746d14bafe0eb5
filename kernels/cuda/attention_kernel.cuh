// kernels/cuda/attention_kernel.cuh
//
// Attention over the paged KV cache below Hopper, decode and prefill chunks alike, and the fold of
// a split.
//
// Mapping  One CTA of four warps per (sequence, KV head, tile of query columns), or, where these
//          are too few for the device, per kUnitTokens of such a sequence: then each stores its
//          units' partial results, and a second kernel folds them as one CTA would have. The rest
//          is that of attention_tile.cuh, as are the numerics.
// Traffic  The cache's bytes of the sequence, once per tile: 8,704 a page and KV head at 4 bits and
//          head_dim 128. Decoding is bound by it, chunks by the tensor cores.
// Limits   See attention.h.
#pragma once

#include "kernels/cuda/attention_values.cuh"
#include "kernels/cuda/device/ptx_async_copy.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"

namespace comet::cuda {

template <typename Shape>
struct alignas(16) AttentionSmem {
  uint8_t stages[Shape::kStages][kGroupPages][Shape::kHeadBytes];
  QuerySmem<Shape> queries;
  GroupWeights<Shape> group;
};

// Starts copying group `group_idx` of the cache into its stage: warp w page w. `page_id` is that
// page's, read one group ahead.
template <typename Shape>
__device__ __forceinline__ void StartGroup(const AttentionParams& params, const QueryTile& tile,
                                           AttentionSmem<Shape>& smem, int group_idx, int page_id) {
  const int warp_idx = GroupWarp();
  const int lane_idx = threadIdx.x % kWarpLanes;
  if (tile.ReadsPage(group_idx * kGroupPages + warp_idx)) {
    const uint8_t* source =
        params.pages + page_id * params.page_stride + int64_t{tile.kv_head_idx} * Shape::kHeadBytes;
    uint8_t* destination = smem.stages[group_idx % Shape::kStages][warp_idx];
#pragma unroll
    for (int offset = 0; offset < Shape::kHeadBytes; offset += kWarpLanes * 16) {
      const int byte = offset + lane_idx * 16;
      if (Shape::kHeadBytes % (kWarpLanes * 16) == 0 || byte < Shape::kHeadBytes) {
        ptx::StartAsyncCopy16(destination + byte, source + byte, 16);
      }
    }
  }
  ptx::CommitAsyncCopies();
}

// This warp's page of group `group_idx`, or 0 where nothing is read.
__device__ __forceinline__ int PageOfGroup(const AttentionParams& params, const QueryTile& tile,
                                           int group_idx) {
  const int page_idx = group_idx * kGroupPages + static_cast<int>(threadIdx.x) / kWarpLanes;
  if (!tile.ReadsPage(page_idx)) return 0;
  return params.batch.PageId(tile.sequence_idx, page_idx);
}

// CTAs that fold a tile: a warp each, for one of a thread's columns and two of its channels, so
// that none waits for another.
template <typename Shape>
constexpr int kFoldWarps = kWarps * 2 * Shape::kWarpTiles;

// What such a warp folds, of a unit or of all so far.
struct FoldedPart {
  float max = -INFINITY;
  float sum = 0.0f;
  float offset = 0.0f;
  float low = 0.0f;
  float high = 0.0f;
};

// Folds the units of split tiles, first to last. The first units are asked for together with the
// sequence's length, and all of a round at once: memory is far away. What is loaded of units that
// nobody wrote is not used.
template <typename Shape>
__global__ void __launch_bounds__(kWarpLanes)
    FoldUnitsKernel(const __grid_constant__ AttentionParams params) {
  static_assert(Shape::kColumnTiles == 1);
  constexpr int kRoundUnits = 32;
  const int lane_idx = static_cast<int>(threadIdx.x);
  const int part_idx = static_cast<int>(blockIdx.x);
  const int c = part_idx % 2;
  const int warp_tile = part_idx / 2 % Shape::kWarpTiles;
  const int warp_idx = part_idx / (2 * Shape::kWarpTiles) % kWarps;
  const int tile_idx = part_idx / kFoldWarps<Shape>;
  ReleaseNextGrids();
  WaitForPreviousGrids();

  FoldedPart units[kRoundUnits];
  const auto load = [&](int first_unit) {
#pragma unroll
    for (int i = 0; i < kRoundUnits; ++i) {
      if (first_unit + i >= params.units_max) continue;
      const float* words =
          UnitOf<Shape>(params, tile_idx, first_unit + i, warp_idx * kWarpLanes + lane_idx);
      units[i] = {.max = words[(c * kColumnWords + 0) * kThreads],
                  .sum = words[(c * kColumnWords + 1) * kThreads],
                  .offset = words[(c * kColumnWords + 2) * kThreads],
                  .low = words[OutWord(warp_tile, c) * kThreads],
                  .high = words[OutWord(warp_tile, c + 2) * kThreads]};
    }
  };
  load(0);
  const QueryTile tile = FindTile<Shape>(params, tile_idx);
  const int column_idx = lane_idx % 4 * 2 + c;
  if (tile.sequence_idx < 0 || column_idx >= tile.num_columns) return;
  const int begin = tile.first_position / kUnitTokens;
  const int end = (tile.num_positions + kUnitTokens - 1) / kUnitTokens;
  int first_unit = 0;
  if (begin >= kRoundUnits) {
    first_unit = begin;
    load(first_unit);
  }
  FoldedPart state;
  while (true) {
#pragma unroll
    for (int i = 0; i < kRoundUnits; ++i) {
      if (first_unit + i < begin || first_unit + i >= end) continue;
      const FoldFactors factors = FoldMax(state.max, units[i].max);
      factors.Fold(state.sum, units[i].sum);
      factors.Fold(state.offset, units[i].offset);
      factors.Fold(state.low, units[i].low);
      factors.Fold(state.high, units[i].high);
    }
    first_unit += kRoundUnits;
    if (first_unit >= end) break;
    load(first_unit);
  }
  const Column column = ColumnOf<Shape>(params, tile, column_idx);
  __half* out = params.out + column.row * params.out_row_stride +
                column.head_idx * Shape::kHeadDim + FirstChannelOf<Shape>(warp_idx, lane_idx) +
                2 * warp_tile;
  *reinterpret_cast<__half2*>(out) =
      OutputOf<Shape>(state.low, state.high, state.offset, state.sum);
}

template <typename Shape>
__global__ void __launch_bounds__(kThreads)
    AttentionKernel(const __grid_constant__ AttentionParams params) {
  extern __shared__ uint8_t smem_bytes[];
  AttentionSmem<Shape>& smem = *reinterpret_cast<AttentionSmem<Shape>*>(smem_bytes);
  ReleaseNextGrids();
  WaitForPreviousGrids();
  const int tile_idx = static_cast<int>(blockIdx.x);
  const QueryTile tile = FindTile<Shape>(params, tile_idx);
  if (tile.sequence_idx < 0) return;

  const int warp_idx = GroupWarp();
  const int split_group = static_cast<int>(blockIdx.y) * params.split_units * kUnitGroups;
  const int first_group = max(split_group, tile.first_position / kCacheGroupTokens);
  const int end_group = min(split_group + params.split_units * kUnitGroups,
                            (tile.num_positions + kCacheGroupTokens - 1) / kCacheGroupTokens);
  if (first_group >= end_group) return;
  int next_page = PageOfGroup(params, tile, first_group);
#pragma unroll
  for (int i = 0; i < Shape::kStages - 1; ++i) {
    StartGroup<Shape>(params, tile, smem, first_group + i, next_page);
    next_page = PageOfGroup(params, tile, first_group + i + 1);
  }
  LoadQueries<Shape>(params, tile, smem.queries);
  __syncthreads();
  float query_sum[Shape::kColumnTiles][2];
  SumQueries<Shape>(smem.queries, query_sum);

  AttentionState<Shape> state;
  AttentionState<Shape> unit;
  state.Clear();
  unit.Clear();
  for (int group_idx = first_group; group_idx < end_group; ++group_idx) {
    ptx::WaitAsyncCopies<Shape::kStages - 2>();
    __syncthreads();  // The group is there, and the one before has been read.
    StartGroup<Shape>(params, tile, smem, group_idx + Shape::kStages - 1, next_page);
    next_page = PageOfGroup(params, tile, group_idx + Shape::kStages);

    const auto& stage = smem.stages[group_idx % Shape::kStages];
    AttendPage<Shape>(params, tile, smem.queries, stage[warp_idx],
                      (group_idx * kGroupPages + warp_idx) * kPageTokens, query_sum, smem.group);
    __syncthreads();  // All four pages' weights are there.
    WeighValues<Shape>(smem.group, stage, unit);
    if ((group_idx + 1) % kUnitGroups != 0 && group_idx + 1 < end_group) continue;
    if (params.units != nullptr) {
      StoreUnit<Shape>(unit,
                       UnitOf<Shape>(params, tile_idx, group_idx / kUnitGroups, GroupThread()));
    } else {
      Fold<Shape>(state, unit);
    }
    unit.Clear();
  }
  if (params.units == nullptr) StoreOutput<Shape>(params, tile, state);
}

}  // namespace comet::cuda
