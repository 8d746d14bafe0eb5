// kernels/cuda/sm90_decode_kernel.cuh
//
// Decode attention on Hopper: the arithmetic of attention_tile.cuh, its bits included, over a
// pipeline that does not end with a sequence.
//
// Mapping  Persistent CTAs of four warps for keys, four for values and a producer warp, which
//          takes items, (sequence, KV head, units of a split), from a queue, and brings their pages
//          by one bulk copy each, some groups of four ahead, on into the next item. The warps
//          for keys make a group's weights while those for values add up the group before.
// Traffic  As there. Two CTAs an SM with two stages each keep 140 KB under way at head_dim 128
//          and 4 bits; more lengthens the tail, in which an SM computes what arrived last.
#pragma once

#include "kernels/cuda/attention_values.cuh"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/ring_cursor.cuh"

namespace comet::cuda {

constexpr int kDecodeThreads = 2 * kThreads + kWarpLanes;
constexpr int kDecodeCtasPerSm = 2;
constexpr int kDecodeStagesMax = 8;
constexpr int kDecodeItemStages = 4;
constexpr int kWeightStages = 2;
constexpr int kKeyBarrier = 1;  // Of the warps for keys.

// A tile, or the units of it that one CTA sums up.
struct DecodeItem {
  QueryTile tile;  // Its sequence is -1 where nothing is left.
  int tile_idx = 0;
  int first_group = 0;
  int end_group = 0;
};

// A group of pages of one KV head as the cache has them.
template <typename Shape>
using GroupStage = uint8_t[kGroupPages][Shape::kHeadBytes];

// Its stages follow it, at multiples of 128 bytes: at others bulk copies take 5 % longer.
template <typename Shape>
struct alignas(128) DecodeSmem {
  QuerySmem<Shape> queries[2];  // In turn, so that one barrier an item does.
  GroupWeights<Shape> weights[kWeightStages];
  DecodeItem items[kDecodeItemStages];
  uint64_t pages_full[kDecodeStagesMax][kGroupPages];
  uint64_t stages_empty[kDecodeStagesMax];
  uint64_t weights_full[kWeightStages];
  uint64_t weights_empty[kWeightStages];
  uint64_t items_full[kDecodeItemStages];
  uint64_t items_empty[kDecodeItemStages];

  __device__ __forceinline__ GroupStage<Shape>& stage(int stage_idx) {
    return reinterpret_cast<GroupStage<Shape>*>(this + 1)[stage_idx];
  }
};

template <typename Shape>
constexpr int64_t DecodeSmemBytes(int64_t num_stages) {
  return sizeof(DecodeSmem<Shape>) + num_stages * sizeof(GroupStage<Shape>);
}

// Item `item_idx`, of which there may be nothing.
template <typename Shape>
__device__ __forceinline__ DecodeItem MakeItem(const AttentionParams& params, int item_idx,
                                               int num_splits) {
  DecodeItem item;
  item.tile_idx = item_idx / num_splits;
  item.tile = FindTile<Shape>(params, item.tile_idx);
  if (item.tile.sequence_idx < 0) return item;
  const int split_group = item_idx % num_splits * params.split_units * kUnitGroups;
  item.first_group = max(split_group, item.tile.first_position / kCacheGroupTokens);
  item.end_group = min(split_group + params.split_units * kUnitGroups,
                       (item.tile.num_positions + kCacheGroupTokens - 1) / kCacheGroupTokens);
  return item;
}

// Asks for the first item's first pages to be brought to L2 while the grids before still run. That
// reads nothing of the cache, so what they append to it is seen later; lengths and page ids no grid
// writes.
template <typename Shape>
__device__ void PrefetchGroups(const AttentionParams& params, int num_stages, int lane_idx) {
  const int num_splits = (params.units_max + params.split_units - 1) / params.split_units;
  const DecodeItem item = MakeItem<Shape>(params, static_cast<int>(blockIdx.x), num_splits);
  if (item.tile.sequence_idx < 0 || lane_idx >= num_stages * kGroupPages) return;
  const int page_idx = item.first_group * kGroupPages + lane_idx;
  if (page_idx >= item.end_group * kGroupPages || !item.tile.ReadsPage(page_idx)) return;
  const int page_id = params.batch.PageId(item.tile.sequence_idx, page_idx);
  ptx::PrefetchBytes(params.pages + page_id * params.page_stride +
                         int64_t{item.tile.kv_head_idx} * Shape::kHeadBytes,
                     Shape::kHeadBytes);
}

template <typename Shape>
__device__ void ProduceGroups(const AttentionParams& params, int num_stages,
                              DecodeSmem<Shape>& smem, int lane_idx) {
  WorkQueue queue(params.work);
  RingCursor<kDecodeStagesMax> stage;
  RingCursor<kDecodeItemStages> slot;
  const auto hand_out = [&](const DecodeItem& item) {
    ptx::Wait(&smem.items_empty[slot.stage_idx], slot.phase ^ 1);
    if (lane_idx == 0) {
      smem.items[slot.stage_idx] = item;
      ptx::Arrive(&smem.items_full[slot.stage_idx]);
    }
    slot.Advance();
  };
  const int num_splits = (params.units_max + params.split_units - 1) / params.split_units;
  const int num_items = params.batch.num_sequences * params.num_kv_heads * num_splits;
  const bool has_queue = num_items > static_cast<int>(gridDim.x);
  int item_idx = static_cast<int>(blockIdx.x);
  while (item_idx < num_items) {
    const int sequence_idx = item_idx / (num_splits * params.num_kv_heads);
    int page_base = item_idx % num_splits * params.split_units * kUnitGroups * kGroupPages;
    int page_id = 0;  // Of page page_base + lane.
    const auto find_pages = [&] {
      const int page_idx = page_base + lane_idx;
      if (page_idx < params.pages_max) page_id = params.batch.PageId(sequence_idx, page_idx);
    };
    find_pages();  // Where a split begins, while its length is still on its way.
    const DecodeItem item = MakeItem<Shape>(params, item_idx, num_splits);
    if (item.first_group < item.end_group) hand_out(item);
    unsigned taken = 0;
    if (has_queue && lane_idx == 0) taken = queue.Take();
    for (int group_idx = item.first_group; group_idx < item.end_group; ++group_idx) {
      const int first_page = group_idx * kGroupPages;
      if (first_page >= page_base + kWarpLanes) {
        page_base = first_page;
        find_pages();
      }
      const int source_lane = first_page - page_base + lane_idx % kGroupPages;
      const int source_id = __shfl_sync(kAllLanes, page_id, source_lane);
      ptx::Wait(&smem.stages_empty[stage.stage_idx], stage.phase ^ 1);
      if (lane_idx < kGroupPages) {
        uint64_t* barrier = &smem.pages_full[stage.stage_idx][lane_idx];
        if (item.tile.ReadsPage(first_page + lane_idx)) {
          ptx::ArriveAndExpect(barrier, Shape::kHeadBytes);
          ptx::CopyBytes(smem.stage(stage.stage_idx)[lane_idx],
                         params.pages + source_id * params.page_stride +
                             int64_t{item.tile.kv_head_idx} * Shape::kHeadBytes,
                         Shape::kHeadBytes, barrier, ptx::kEvictFirst);
        } else {
          ptx::Arrive(barrier);
        }
      }
      stage.Advance(num_stages);
    }
    if (!has_queue) break;
    item_idx = WorkQueue::ItemOf(__shfl_sync(kAllLanes, taken, 0));
  }
  hand_out({});
  if (has_queue && lane_idx == 0) queue.Finish();
}

// A warp's way through the items; Next() has no sequence where none is left.
template <typename Shape>
class DecodeItems {
 public:
  __device__ __forceinline__ explicit DecodeItems(DecodeSmem<Shape>& smem) : smem_(smem) {}

  __device__ __forceinline__ DecodeItem Next() {
    ptx::Wait(&smem_.items_full[slot_.stage_idx], slot_.phase);
    const DecodeItem item = smem_.items[slot_.stage_idx];
    __syncwarp();
    if (threadIdx.x % kWarpLanes == 0) ptx::Arrive(&smem_.items_empty[slot_.stage_idx]);
    slot_.Advance();
    return item;
  }

 private:
  DecodeSmem<Shape>& smem_;
  RingCursor<kDecodeItemStages> slot_;
};

// Makes the weights of one page of each group.
template <typename Shape>
__device__ void WeighGroups(const AttentionParams& params, int num_stages, DecodeSmem<Shape>& smem,
                            int warp_idx, int lane_idx) {
  DecodeItems<Shape> items(smem);
  RingCursor<kDecodeStagesMax> stage;
  RingCursor<kWeightStages> weights;
  int parity = 0;
  for (DecodeItem item = items.Next(); item.tile.sequence_idx >= 0; item = items.Next()) {
    QuerySmem<Shape>& queries = smem.queries[parity];
    parity ^= 1;
    LoadQueries<Shape>(params, item.tile, queries);
    ptx::SyncThreads(kKeyBarrier, kThreads);
    float query_sum[Shape::kColumnTiles][2];
    SumQueries<Shape>(queries, query_sum);
    for (int group_idx = item.first_group; group_idx < item.end_group; ++group_idx) {
      ptx::Wait(&smem.weights_empty[weights.stage_idx], weights.phase ^ 1);
      ptx::Wait(&smem.pages_full[stage.stage_idx][warp_idx], stage.phase);
      AttendPage<Shape>(params, item.tile, queries, smem.stage(stage.stage_idx)[warp_idx],
                        (group_idx * kGroupPages + warp_idx) * kPageTokens, query_sum,
                        smem.weights[weights.stage_idx]);
      __syncwarp();
      if (lane_idx == 0) ptx::Arrive(&smem.weights_full[weights.stage_idx]);
      weights.Advance();
      stage.Advance(num_stages);
    }
  }
}

// Adds up a quarter of the channels of each group's values.
template <typename Shape>
__device__ void SumGroups(const AttentionParams& params, int num_stages, DecodeSmem<Shape>& smem,
                          int lane_idx) {
  DecodeItems<Shape> items(smem);
  RingCursor<kDecodeStagesMax> stage;
  RingCursor<kWeightStages> weights;
  for (DecodeItem item = items.Next(); item.tile.sequence_idx >= 0; item = items.Next()) {
    AttentionState<Shape> state;
    AttentionState<Shape> unit;
    state.Clear();
    unit.Clear();
    for (int group_idx = item.first_group; group_idx < item.end_group; ++group_idx) {
#pragma unroll
      for (int w = 0; w < kGroupPages; ++w) {
        ptx::Wait(&smem.pages_full[stage.stage_idx][w], stage.phase);
      }
      ptx::Wait(&smem.weights_full[weights.stage_idx], weights.phase);
      WeighValues<Shape>(smem.weights[weights.stage_idx], smem.stage(stage.stage_idx), unit);
      __syncwarp();
      if (lane_idx == 0) {
        ptx::Arrive(&smem.weights_empty[weights.stage_idx]);
        ptx::Arrive(&smem.stages_empty[stage.stage_idx]);
      }
      weights.Advance();
      stage.Advance(num_stages);
      if ((group_idx + 1) % kUnitGroups != 0 && group_idx + 1 < item.end_group) continue;
      if (params.units != nullptr) {
        StoreUnit<Shape>(
            unit, UnitOf<Shape>(params, item.tile_idx, group_idx / kUnitGroups, GroupThread()));
      } else {
        Fold<Shape>(state, unit);
      }
      unit.Clear();
    }
    if (params.units == nullptr) StoreOutput<Shape>(params, item.tile, state);
  }
}

template <typename Shape>
__global__ void __launch_bounds__(kDecodeThreads, kDecodeCtasPerSm)
    DecodeKernel(const __grid_constant__ AttentionParams params, int num_stages) {
  extern __shared__ __align__(128) uint8_t smem_bytes[];
  DecodeSmem<Shape>& smem = *reinterpret_cast<DecodeSmem<Shape>*>(smem_bytes);
  const int warp_idx = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpLanes, 0);
  const int lane_idx = static_cast<int>(threadIdx.x) % kWarpLanes;
  ReleaseNextGrids();
  if (threadIdx.x == 0) {
    for (int i = 0; i < num_stages; ++i) {
      for (int w = 0; w < kGroupPages; ++w) ptx::InitBarrier(&smem.pages_full[i][w], 1);
      ptx::InitBarrier(&smem.stages_empty[i], kWarps);
    }
    for (int i = 0; i < kWeightStages; ++i) {
      ptx::InitBarrier(&smem.weights_full[i], kWarps);
      ptx::InitBarrier(&smem.weights_empty[i], kWarps);
    }
    for (int i = 0; i < kDecodeItemStages; ++i) {
      ptx::InitBarrier(&smem.items_full[i], 1);
      ptx::InitBarrier(&smem.items_empty[i], 2 * kWarps);
    }
    ptx::FenceBarrierInit();
  }
  __syncthreads();
  if (warp_idx == kWarps) PrefetchGroups<Shape>(params, num_stages, lane_idx);
  WaitForPreviousGrids();
  if (warp_idx == 2 * kWarps) {
    ProduceGroups<Shape>(params, num_stages, smem, lane_idx);
  } else if (warp_idx >= kWarps) {
    SumGroups<Shape>(params, num_stages, smem, lane_idx);
  } else {
    WeighGroups<Shape>(params, num_stages, smem, warp_idx, lane_idx);
  }
}

}  // namespace comet::cuda
