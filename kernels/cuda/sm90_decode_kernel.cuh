// kernels/cuda/sm90_decode_kernel.cuh
//
// Decode attention on Hopper: the arithmetic of attention_kernel.cuh, its bits included, over a
// pipeline that does not end with a sequence.
//
// Mapping  Persistent CTAs of four compute warps and a producer warp. The producer takes items,
//          (sequence, KV head, units of a split), from a queue, and brings their pages by one bulk
//          copy each, kStages groups of four ahead, on into the next item.
// Traffic  As there. Two CTAs an SM with two stages each keep 140 KB under way at head_dim 128
//          and 4 bits; more lengthens the tail, in which an SM computes what arrived last.
#pragma once

#include "kernels/cuda/attention_kernel.cuh"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"

namespace comet::cuda {

constexpr int kDecodeThreads = kThreads + kWarpLanes;
constexpr int kDecodeItemStages = 4;
constexpr int kComputeBarrier = 1;  // Of the four compute warps.

// Two CTAs an SM at head_dim 128, where a third would only add to what is under way at the end.
constexpr int DecodeCtasPerSm(int head_dim) { return head_dim == 64 ? 3 : 2; }

// A tile, or the units of it that one CTA sums up.
struct DecodeItem {
  QueryTile tile;  // Its sequence is -1 where nothing is left.
  int tile_idx = 0;
  int first_group = 0;
  int end_group = 0;
};

template <typename Shape>
struct alignas(16) DecodeSmem {
  uint8_t stages[Shape::kStages][kGroupPages][Shape::kHeadBytes];
  QuerySmem<Shape> queries;
  GroupWeights<Shape> groups[2];  // In turn, so that one barrier a group does.
  DecodeItem items[kDecodeItemStages];
  uint64_t pages_full[Shape::kStages][kGroupPages];
  uint64_t stages_empty[Shape::kStages];
  uint64_t items_full[kDecodeItemStages];
  uint64_t items_empty[kDecodeItemStages];
};

template <int kStages>
struct RingCursor {
  int stage_idx = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void Advance() {
    if (++stage_idx == kStages) {
      stage_idx = 0;
      phase ^= 1;
    }
  }
};

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

template <typename Shape>
__device__ void ProduceGroups(const AttentionParams& params, DecodeSmem<Shape>& smem,
                              int lane_idx) {
  WorkQueue queue(params.work);
  RingCursor<Shape::kStages> stage;
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
  int item_idx = static_cast<int>(blockIdx.x);
  while (item_idx < num_items) {
    int next_item_idx = 0;
    if (lane_idx == 0) next_item_idx = queue.Take();  // Ahead, as the counter is far away.
    const DecodeItem item = MakeItem<Shape>(params, item_idx, num_splits);
    if (item.first_group < item.end_group) hand_out(item);
    const int end_page = item.end_group * kGroupPages;
    int page_id = 0;  // Of page page_base + lane.
    int page_base = -kWarpLanes;
    for (int group_idx = item.first_group; group_idx < item.end_group; ++group_idx) {
      const int first_page = group_idx * kGroupPages;
      if (first_page >= page_base + kWarpLanes || page_base < 0) {
        page_base = first_page;
        const int page_idx = page_base + lane_idx;
        if (page_idx < end_page && item.tile.ReadsPage(page_idx)) {
          page_id = params.batch.PageId(item.tile.sequence_idx, page_idx);
        }
      }
      const int source_lane = first_page - page_base + lane_idx % kGroupPages;
      const int source_id = __shfl_sync(kAllLanes, page_id, source_lane);
      ptx::Wait(&smem.stages_empty[stage.stage_idx], stage.phase ^ 1);
      if (lane_idx < kGroupPages) {
        uint64_t* barrier = &smem.pages_full[stage.stage_idx][lane_idx];
        if (item.tile.ReadsPage(first_page + lane_idx)) {
          ptx::ArriveAndExpect(barrier, Shape::kHeadBytes);
          ptx::CopyBytes(smem.stages[stage.stage_idx][lane_idx],
                         params.pages + source_id * params.page_stride +
                             int64_t{item.tile.kv_head_idx} * Shape::kHeadBytes,
                         Shape::kHeadBytes, barrier, ptx::kEvictFirst);
        } else {
          ptx::Arrive(barrier);
        }
      }
      stage.Advance();
    }
    item_idx = __shfl_sync(kAllLanes, next_item_idx, 0);
  }
  hand_out({});
  if (lane_idx == 0) queue.Finish();
}

template <typename Shape>
__device__ void ConsumeGroups(const AttentionParams& params, DecodeSmem<Shape>& smem, int warp_idx,
                              int lane_idx) {
  RingCursor<Shape::kStages> stage;
  RingCursor<kDecodeItemStages> slot;
  int parity = 0;
  for (;;) {
    ptx::Wait(&smem.items_full[slot.stage_idx], slot.phase);
    const DecodeItem item = smem.items[slot.stage_idx];
    __syncwarp();
    if (lane_idx == 0) ptx::Arrive(&smem.items_empty[slot.stage_idx]);
    slot.Advance();
    if (item.tile.sequence_idx < 0) return;

    // No warp reads the last item's queries any more: all have come to its last group's barrier.
    LoadQueries<Shape>(params, item.tile, smem.queries);
    ptx::SyncThreads(kComputeBarrier, kThreads);
    float query_sum[Shape::kColumnTiles][2];
    SumQueries<Shape>(smem.queries, query_sum);
    AttentionState<Shape> state;
    AttentionState<Shape> unit;
    state.Clear();
    unit.Clear();
    for (int group_idx = item.first_group; group_idx < item.end_group; ++group_idx) {
      uint64_t* pages_full = smem.pages_full[stage.stage_idx];
      const auto& pages = smem.stages[stage.stage_idx];
      GroupWeights<Shape>& group = smem.groups[parity];
      parity ^= 1;
      ptx::Wait(&pages_full[warp_idx], stage.phase);
      AttendPage<Shape>(params, item.tile, smem.queries, pages[warp_idx],
                        (group_idx * kGroupPages + warp_idx) * kPageTokens, query_sum, group);
      ptx::SyncThreads(kComputeBarrier, kThreads);  // All four pages' weights are there.
#pragma unroll
      for (int w = 0; w < kGroupPages; ++w) ptx::Wait(&pages_full[w], stage.phase);
      WeighValues<Shape>(group, pages, unit);
      __syncwarp();
      if (lane_idx == 0) ptx::Arrive(&smem.stages_empty[stage.stage_idx]);
      stage.Advance();
      if ((group_idx + 1) % kUnitGroups != 0 && group_idx + 1 < item.end_group) continue;
      if (params.units != nullptr) {
        ForEachWord<Shape>(unit, UnitOf<Shape>(params, item.tile_idx, group_idx / kUnitGroups),
                           [](const float& word, float& memory) { memory = word; });
      } else {
        Fold<Shape>(state, unit);
      }
      unit.Clear();
    }
    if (params.units == nullptr) StoreOutput<Shape>(params, item.tile, state);
  }
}

template <typename Shape>
__global__ void __launch_bounds__(kDecodeThreads, DecodeCtasPerSm(Shape::kHeadDim))
    DecodeKernel(const __grid_constant__ AttentionParams params) {
  extern __shared__ __align__(16) uint8_t smem_bytes[];
  DecodeSmem<Shape>& smem = *reinterpret_cast<DecodeSmem<Shape>*>(smem_bytes);
  const int warp_idx = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpLanes, 0);
  const int lane_idx = static_cast<int>(threadIdx.x) % kWarpLanes;
  ReleaseNextGrids();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::kStages; ++i) {
      for (int w = 0; w < kGroupPages; ++w) ptx::InitBarrier(&smem.pages_full[i][w], 1);
      ptx::InitBarrier(&smem.stages_empty[i], kWarps);
    }
    for (int i = 0; i < kDecodeItemStages; ++i) {
      ptx::InitBarrier(&smem.items_full[i], 1);
      ptx::InitBarrier(&smem.items_empty[i], kWarps);
    }
    ptx::FenceBarrierInit();
  }
  __syncthreads();
  WaitForPreviousGrids();
  if (warp_idx == kWarps) {
    ProduceGroups<Shape>(params, smem, lane_idx);
  } else {
    ConsumeGroups<Shape>(params, smem, warp_idx, lane_idx);
  }
}

}  // namespace comet::cuda
