#pragma once

#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_wgmma.cuh"
#include "kernels/cuda/sm90_gemm_pipeline.cuh"

// A consumer warpgroup: its way through the ring, from packed units to exact sums of a tile.
namespace comet::sm90 {

// Who a thread of a consumer warpgroup is.
template <typename Traits>
struct Consumer {
  __device__ explicit Consumer(int warpgroup_idx)
      : warpgroup_thread(static_cast<int>(threadIdx.x) % kWarpgroupThreads),
        lane_idx(static_cast<int>(threadIdx.x) % kWarpThreads),
        warpgroup_idx(warpgroup_idx),
        row_group(warpgroup_idx / Traits::kKGroups),
        k_group(warpgroup_idx % Traits::kKGroups),
        first_output(kUnitOutputs * row_group + warpgroup_thread / kWarpThreads * 16 +
                     lane_idx / 4 * 2),
        first_token(lane_idx % 4 * 2) {}

  // Among the threads of its row group.
  __device__ int group_thread() const { return k_group * kWarpgroupThreads + warpgroup_thread; }

  const int warpgroup_thread;
  const int lane_idx;
  const int warpgroup_idx;  // Among the consumers.
  const int row_group;
  const int k_group;
  const int first_output;  // Of the two this thread accumulates, in the tile,
  const int first_token;   // and of the two in every chunk of 8 tokens.
};

// One thread's part of a unit, still packed.
struct PackedOperand {
  uint4 codes[2];
  uint32_t steps;
};

// Four weights from four codes u = v + 8, one a byte: gamma * u + (128 - 8 gamma) = gamma * v + 128
// is within a byte for every gamma and v, so one multiplication serves four of them.
template <bool kIsBiased>
__device__ __forceinline__ uint32_t WeightsOf(uint32_t codes, int32_t step, uint32_t offset) {
  const uint32_t biased = (codes & 0x0f0f0f0f) * static_cast<uint32_t>(step) + offset;
  return kIsBiased ? biased : biased ^ 0x80808080;
}

// Registers of wgmma's weight operand for the four times 32 channels of a block.
using Operand = uint32_t[4][4];

template <bool kIsBiased>
__device__ __forceinline__ void Unpack(const PackedOperand& packed, Operand& operand) {
  const uint32_t words[8] = {packed.codes[0].x, packed.codes[0].y, packed.codes[0].z,
                             packed.codes[0].w, packed.codes[1].x, packed.codes[1].y,
                             packed.codes[1].z, packed.codes[1].w};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int32_t step = static_cast<int8_t>(packed.steps >> (8 * half));
    const uint32_t offset = 0x80808080u - static_cast<uint32_t>(step) * 0x08080808u;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = words[2 * i + half];
      operand[i][half] = WeightsOf<kIsBiased>(word, step, offset);
      operand[i][2 + half] = WeightsOf<kIsBiased>(word >> 4, step, offset);
    }
  }
}

// A consumer's way through the ring and through one region of a tile's blocks.
template <typename Traits>
struct Multiplier {
  static constexpr int kAccumulators = Traits::kTileTokens / 2;

  __device__ Multiplier(SmemLayout<Traits>& shared, const Consumer<Traits>& self)
      : smem(shared), lane_idx(self.lane_idx), first_tile(FirstTile(shared, self)) {
    const uint8_t* unit = shared.units[0][self.warpgroup_idx];
    first_codes = unit + 16 * self.warpgroup_thread;
    first_steps = unit + kUnitCodeBytes + self.warpgroup_thread / 4 * 2;
  }

  __device__ static uint32_t FirstTile(SmemLayout<Traits>& shared, const Consumer<Traits>& self) {
    return ptx::TileAddress(ptx::SharedAddress(shared.tokens[0][self.k_group]));
  }

  // The packed weights of the stage at the cursor, once it is full.
  __device__ __forceinline__ PackedOperand WaitAndLoad() {
    ptx::Wait(&smem.full[cursor.stage_idx], cursor.phase);
    constexpr int kStageUnits = Traits::kConsumers * kUnitBytes;
    const auto* codes =
        reinterpret_cast<const uint4*>(first_codes + cursor.stage_idx * kStageUnits);
    const auto* steps =
        reinterpret_cast<const uint16_t*>(first_steps + cursor.stage_idx * kStageUnits);
    return {.codes = {codes[0], codes[kWarpgroupThreads]}, .steps = *steps};
  }

  // By every warp, once it has read all it wants of the stage.
  __device__ __forceinline__ void Release(int stage_idx) {
    if (lane_idx == 0) ptx::Arrive(&smem.empty[stage_idx]);
  }

  // Starts the products of one block and, while they run, loads the next block's weights. Frees
  // the stage of the block before, whose products end here at the latest.
  __device__ __forceinline__ void MultiplyBlock(PackedOperand& packed, Operand& operand,
                                                int32_t (&acc)[kAccumulators], int num_left,
                                                bool is_first) {
    Unpack<Traits::kIsBiased>(packed, operand);
    constexpr uint32_t kStageTiles = Traits::kKGroups * Traits::kTokenBytes / 16;
    const uint32_t tile = first_tile + static_cast<uint32_t>(cursor.stage_idx) * kStageTiles;
    ptx::FenceProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      ptx::Multiply<Traits::kIsBiased>(
          acc, operand[i], ptx::TileDescriptor(tile + static_cast<uint32_t>(i) * ptx::kStep32));
    }
    ptx::CommitProducts();
    const int stage_before = last_stage;
    last_stage = cursor.stage_idx;
    cursor.Advance();
    if (num_left > 1) packed = WaitAndLoad();
    ptx::WaitProducts<1>();
    if (!is_first) Release(stage_before);
  }

  // Adds the products of the next num_blocks blocks of this warpgroup.
  __device__ __forceinline__ void MultiplyBlocks(int32_t (&acc)[kAccumulators], int num_blocks) {
    if (num_blocks == 0) return;
    // Two operands take turns: the tensor cores read one while the other is made.
    Operand operand_even, operand_odd;
    PackedOperand packed = WaitAndLoad();
    bool is_first = true;
    for (;;) {
      MultiplyBlock(packed, operand_even, acc, num_blocks, is_first);
      if (--num_blocks == 0) break;
      is_first = false;
      MultiplyBlock(packed, operand_odd, acc, num_blocks, false);
      if (--num_blocks == 0) break;
    }
    ptx::WaitProducts<0>();
    Release(last_stage);
  }

  // Passes a stage that holds no block for this warpgroup.
  __device__ __forceinline__ void SkipStage() {
    ptx::Wait(&smem.full[cursor.stage_idx], cursor.phase);
    Release(cursor.stage_idx);
    cursor.Advance();
  }

  SmemLayout<Traits>& smem;
  const int lane_idx;
  // This thread's places in stage 0.
  const uint32_t first_tile;
  const uint8_t* first_codes;
  const uint8_t* first_steps;
  RingCursor<Traits> cursor;
  int last_stage = 0;
};

// The exact sums of one tile over the blocks of this warpgroup: first the INT8 region, shifted by
// each token's exponent, then the INT4 region.
template <typename Traits>
__device__ __forceinline__ void Accumulate(const GemmParams& params, const Work<Traits>& work,
                                           const Consumer<Traits>& me,
                                           const TokenFactors<Traits>& factors,
                                           Multiplier<Traits>& multiplier,
                                           int32_t (&acc)[Traits::kTileTokens / 2]) {
  const int first_step = work.first_step + me.k_group;
  const auto num_blocks_below = [&](int num_steps) {
    return CeilDiv(max(num_steps - first_step, 0), Traits::kSummands);
  };
  const int num_int8 = num_blocks_below(params.num_int8_blocks);
  const int num_all = num_blocks_below(work.num_blocks);
#pragma unroll
  for (int i = 0; i < Traits::kTileTokens / 2; ++i) acc[i] = 0;
#pragma unroll 1
  for (int region = 0; region < 2; ++region) {
    multiplier.MultiplyBlocks(acc, region == 0 ? num_int8 : num_all - num_int8);
    if (region == 1 || num_int8 == 0) continue;
#pragma unroll
    for (int chunk = 0; chunk < Traits::kChunks; ++chunk) {
      const int2 exponent =
          *reinterpret_cast<const int2*>(&factors.exponent[8 * chunk + me.first_token]);
      acc[4 * chunk] <<= exponent.x;
      acc[4 * chunk + 1] <<= exponent.y;
      acc[4 * chunk + 2] <<= exponent.x;
      acc[4 * chunk + 3] <<= exponent.y;
    }
  }
  if (num_all < work.num_rounds) multiplier.SkipStage();
}

}  // namespace comet::sm90
