#pragma once

#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/device/ptx_grid_dependency.cuh"
#include "kernels/cuda/device/ptx_wgmma.cuh"
#include "kernels/cuda/sm90_gemm_params.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

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

constexpr int kWarpgroupThreads = 128;
constexpr int kWarpThreads = 32;
constexpr int kProducerWarps = 2;  // Of the first warpgroup: one for weights, one for tokens.
constexpr int kSmemBytesMax = 227 * 1024;  // A CTA's limit on sm_90.
// L2 holds a window of row tiles x this many tokens while the grid walks over it.
constexpr int kRasterTokens = 2048;

// Constants of the kernel of kGemmConfigs[kIdx].
template <int kIdx>
struct GemmTraits {
  static constexpr GemmConfig kConfig = kGemmConfigs[kIdx];
  static constexpr int kTileTokens = kConfig.tile_tokens;
  static constexpr int kRowGroups = kConfig.row_groups;
  static constexpr int kKGroups = kConfig.k_groups;
  static constexpr int kClusterK = kConfig.cluster_k;
  static constexpr int kConsumers = kRowGroups * kKGroups;  // Warpgroups.
  static constexpr int kConsumerThreads = kConsumers * kWarpgroupThreads;
  static constexpr int kConsumerWarps = kConsumerThreads / kWarpThreads;
  static constexpr int kThreads = kWarpgroupThreads + kConsumerThreads;

  // Warpgroups that add up to one output, and the chunks of 8 tokens they share out for it.
  static constexpr int kSummands = kKGroups * kClusterK;
  static constexpr int kChunks = kTileTokens / 8;
  static constexpr int kChunksPerCta = CeilDiv(kChunks, kClusterK);
  static constexpr int OwnerOf(int chunk_idx) { return chunk_idx * kSummands / kChunks; }

  // Unsigned weights cost 5 integer operations for 8 of them, signed ones 7; but their products
  // toggle more bits, which at 256 tokens costs more clock than it saves.
  static constexpr bool kIsBiased = kTileTokens <= 128;
  // Registers a thread once the producer's warpgroup has given most of its own away; at entry all
  // have the same, rounded down to a multiple of 8.
  static constexpr int kProducerRegisters = kConsumers == 4 ? 32 : 56;
  static constexpr int kEntryRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kConsumerRegisters =
      (kEntryRegisters * (kConsumers + 1) - kProducerRegisters) / kConsumers / 8 * 8;

  // Before the main loop, which hides their latency; after it where it needs their registers and
  // adding partial sums hides some.
  static constexpr bool kLoadsOutputsEarly = kSummands == 1 || kTileTokens <= 16;

  static constexpr int kTokenBytes = kTileTokens * kUnitChannels;
  static constexpr int kStageBytes = kKGroups * kTokenBytes + kConsumers * kUnitBytes;
  static constexpr int kPartialBytes =
      kSummands == 1 ? 0 : kChunksPerCta * (kSummands - 1) * kWarpgroupThreads * 16 * kRowGroups;
  static constexpr int kFixedBytes = kPartialBytes + 2 * kTileTokens * 12 + 1024;
  static constexpr int kStages = std::min(20, (kSmemBytesMax - kFixedBytes) / kStageBytes);
  static_assert(kStages >= 3 && kTileTokens <= kConsumerThreads);
};

// What the epilogue needs of each token of a tile.
template <int kTileTokens>
struct alignas(16) TokenFactors {
  float scale[kTileTokens];
  int exponent[kTileTokens];
  int excess[kTileTokens];  // What biased weights add to every sum.
};

template <typename Traits>
struct alignas(1024) SmemLayout {
  // Swizzled, 128 bytes a token; tiles of a stage are those of the k groups.
  uint8_t tokens[Traits::kStages][Traits::kKGroups][Traits::kTokenBytes];
  // Units of a stage: row group after row group, in each the k groups'.
  uint8_t units[Traits::kStages][Traits::kConsumers][kUnitBytes];
  alignas(16) uint8_t partials[std::max(Traits::kPartialBytes, 16)];
  TokenFactors<Traits::kTileTokens> factors[2];  // Of the tile at hand and of the one before.
  uint64_t full[Traits::kStages];
  uint64_t empty[Traits::kStages];
  uint64_t partials_full;
};

struct Tile {
  int row_idx;    // In tiles of outputs,
  int token_idx;  // in tiles of tokens.
};

// Tiles in the order of the grid: a band of kRasterTokens tokens after the other, in it row after
// row. So CTAs at work at one time share both weights and tokens.
template <typename Traits>
__device__ __forceinline__ Tile TileAt(int tile_idx, int num_row_tiles, int num_token_tiles) {
  constexpr int kBandTiles = kRasterTokens / Traits::kTileTokens;
  const int band_idx = tile_idx / (kBandTiles * num_row_tiles);
  const int first_token_tile = band_idx * kBandTiles;
  const int band_tiles = min(kBandTiles, num_token_tiles - first_token_tile);
  const int idx_in_band = tile_idx - first_token_tile * num_row_tiles;
  return {.row_idx = idx_in_band / band_tiles,
          .token_idx = first_token_tile + idx_in_band % band_tiles};
}

// What one CTA does: the tiles first, first + stride, ..., and of each the blocks of its rank.
template <typename Traits>
struct Work {
  __device__ explicit Work(const GemmParams& params)
      : num_row_tiles(CeilDiv(params.num_outputs, kUnitOutputs * Traits::kRowGroups)),
        num_token_tiles(CeilDiv(params.num_tokens, Traits::kTileTokens)),
        num_blocks(params.num_int8_blocks + params.num_int4_blocks),
        cta_rank(Traits::kClusterK == 1 ? 0 : ptx::ClusterRank()),
        first_tile(static_cast<int>(blockIdx.x) / Traits::kClusterK),
        tile_stride(static_cast<int>(gridDim.x) / Traits::kClusterK),
        num_tiles(num_row_tiles * num_token_tiles),
        first_step(cta_rank * Traits::kKGroups),
        num_rounds(CeilDiv(max(num_blocks - first_step, 0), Traits::kSummands)) {}

  __device__ Tile TileOf(int tile_idx) const {
    return TileAt<Traits>(tile_idx, num_row_tiles, num_token_tiles);
  }

  // Blocks of a round: one for each k group, but for the last round.
  __device__ int NumSteps(int round) const {
    return min(Traits::kKGroups, num_blocks - first_step - round * Traits::kSummands);
  }

  const int num_row_tiles;
  const int num_token_tiles;
  const int num_blocks;
  const int cta_rank;
  const int first_tile;
  const int tile_stride;
  const int num_tiles;
  // Round r of a tile fills one stage with the steps first_step + r * kSummands + [0, kKGroups).
  const int first_step;
  const int num_rounds;
};

// A place in the ring of stages.
template <typename Traits>
struct RingCursor {
  int stage_idx = 0;
  uint32_t phase = 0;

  __device__ __forceinline__ void Advance() {
    if (++stage_idx == Traits::kStages) {
      stage_idx = 0;
      phase ^= 1;
    }
  }
};

// ---------------------------------------------------------------------------------------------
// Producers: a warp for weights and one for tokens, each filling its part of every stage. All lanes
// of a warp go through the loops, so that what they count stays in uniform registers; one copies.
// Addresses are ready before a stage is free: with wide tiles the ring is short, and every cycle
// between a stage's release and its copies counts.

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
              BlockOfStep(first_step + i, params.num_int4_blocks, params.num_int8_blocks);
          ptx::CopyBox(smem.tokens[cursor.stage_idx][i], &params.codes, block_idx * kUnitChannels,
                       first_token, full, ptx::kEvictNormal);
        }
      }
      first_step += Traits::kSummands;
      cursor.Advance();
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Consumer: a warpgroup.

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

  __device__ int thread_idx() const { return warpgroup_idx * kWarpgroupThreads + warpgroup_thread; }

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
                                           const TokenFactors<Traits::kTileTokens>& factors,
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

// ---------------------------------------------------------------------------------------------
// Epilogue.

constexpr int kConsumerBarrier = 1;

// Adds the sums of all warpgroups that share this one's outputs: each keeps its own chunks of
// tokens and sends the others away, to shared memory of its own CTA or of the cluster's other.
template <typename Traits>
__device__ __forceinline__ void AddPartials(const Work<Traits>& work, const Consumer<Traits>& me,
                                            SmemLayout<Traits>& smem,
                                            int32_t (&acc)[Traits::kTileTokens / 2]) {
  const int summand = work.first_step + me.k_group;
  // Where a summand's chunk lies: [row group][chunk in CTA][summand but the owner][thread].
  const auto offset_of = [&](int chunk, int from) {
    const int owner = Traits::OwnerOf(chunk);
    const int owner_cta = owner / Traits::kKGroups;
    const int chunk_in_cta =
        chunk - CeilDiv(owner_cta * Traits::kKGroups * Traits::kChunks, Traits::kSummands);
    const int slot =
        (me.row_group * Traits::kChunksPerCta + chunk_in_cta) * (Traits::kSummands - 1) + from -
        (from > owner);
    return (slot * kWarpgroupThreads + me.warpgroup_thread) * 16;
  };
#pragma unroll
  for (int chunk = 0; chunk < Traits::kChunks; ++chunk) {
    const int owner = Traits::OwnerOf(chunk);
    if (owner == summand) continue;
    const int4 part =
        make_int4(acc[4 * chunk], acc[4 * chunk + 1], acc[4 * chunk + 2], acc[4 * chunk + 3]);
    uint8_t* const place = smem.partials + offset_of(chunk, summand);
    if constexpr (Traits::kClusterK == 1) {
      *reinterpret_cast<int4*>(place) = part;
    } else {
      ptx::StoreInCluster(ptx::ClusterAddress(place, owner / Traits::kKGroups), part);
    }
  }
  if constexpr (Traits::kClusterK == 1) {
    ptx::SyncThreads(kConsumerBarrier, Traits::kConsumerThreads);
  } else {
#pragma unroll
    for (int rank = 0; rank < Traits::kClusterK; ++rank) {
      ptx::ArriveInCluster(ptx::ClusterAddress(&smem.partials_full, rank));
    }
    ptx::WaitInCluster(&smem.partials_full, 0);
  }
#pragma unroll
  for (int chunk = 0; chunk < Traits::kChunks; ++chunk) {
    if (Traits::OwnerOf(chunk) != summand) continue;
#pragma unroll
    for (int from = 0; from < Traits::kSummands; ++from) {
      if (from == Traits::OwnerOf(chunk)) continue;
      const int4 part = *reinterpret_cast<const int4*>(smem.partials + offset_of(chunk, from));
      acc[4 * chunk] += part.x;
      acc[4 * chunk + 1] += part.y;
      acc[4 * chunk + 2] += part.z;
      acc[4 * chunk + 3] += part.w;
    }
  }
}

// x + kNothing is x for every x, zeros of both signs included.
constexpr float kNothing = -0.0f;

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(__half value) { return __half2float(value); }

template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T x, y;
};

__device__ __forceinline__ void StorePair(float* y, float2 value) {
  *reinterpret_cast<float2*>(y) = value;
}
__device__ __forceinline__ void StorePair(__half* y, float2 value) {
  *reinterpret_cast<__half2*>(y) = __float22half2_rn(value);
}
__device__ __forceinline__ void Store(float* y, float value) { *y = value; }
__device__ __forceinline__ void Store(__half* y, float value) { *y = __float2half_rn(value); }

// What the epilogue needs of this thread's two outputs.
struct OutputFactors {
  float2 scale = {0.0f, 0.0f};
  float2 bias = {kNothing, kNothing};
};

__device__ __forceinline__ OutputFactors LoadOutputFactors(const GemmParams& params, int output) {
  OutputFactors outputs;
  if (output >= params.num_outputs) return outputs;
  outputs.scale = *reinterpret_cast<const float2*>(params.weight_scale + output);
  if (params.bias == nullptr) return outputs;
  outputs.bias.x = params.bias[output];
  if (output + 1 < params.num_outputs) outputs.bias.y = params.bias[output + 1];
  return outputs;
}

// Two neighbouring outputs of one row of y or residual.
struct PairAccess {
  bool is_pair;  // One access of both; otherwise one each.
  bool has_first;
  bool has_second;
};

template <typename T>
__device__ __forceinline__ float2 LoadPair(const T* x, const PairAccess& access) {
  float2 value = make_float2(kNothing, kNothing);
  if (access.is_pair) {
    const Pair<T> pair = *reinterpret_cast<const Pair<T>*>(x);
    value = make_float2(ToFloat(pair.x), ToFloat(pair.y));
  } else {
    if (access.has_first) value.x = ToFloat(x[0]);
    if (access.has_second) value.y = ToFloat(x[1]);
  }
  return value;
}

template <typename T>
__device__ __forceinline__ void StorePair(T* y, float2 value, const PairAccess& access) {
  if (access.is_pair) {
    StorePair(y, value);
  } else {
    if (access.has_first) Store(y, value.x);
    if (access.has_second) Store(y + 1, value.y);
  }
}

// y of this thread's outputs and chunks from its exact sums: scale, bias, residual, one rounding.
// kIsWhole: the tile lies within y, and pairs can be stored; straight code then, which at 256
// tokens is as long as five blocks' products.
template <typename Traits, typename T, bool kIsWhole>
__device__ __forceinline__ void StoreTile(const GemmParams& params, const Work<Traits>& work,
                                          const Consumer<Traits>& me, Tile tile,
                                          const TokenFactors<Traits::kTileTokens>& factors,
                                          const OutputFactors& outputs,
                                          const int32_t (&acc)[Traits::kTileTokens / 2]) {
  constexpr int kBatch = std::min(4, Traits::kChunks);  // Chunks whose residuals load together.
  const int output = tile.row_idx * kUnitOutputs * Traits::kRowGroups + me.first_output;
  const int first_token = tile.token_idx * Traits::kTileTokens + me.first_token;
  const int summand = work.first_step + me.k_group;
  const auto access_of = [&](int token) {
    const bool has_first = kIsWhole || (token < params.num_tokens && output < params.num_outputs);
    const bool has_second =
        kIsWhole || (token < params.num_tokens && output + 1 < params.num_outputs);
    return PairAccess{.is_pair = kIsWhole || (params.stores_pairs && has_second),
                      .has_first = has_first,
                      .has_second = has_second};
  };
  T* y = static_cast<T*>(params.y) + first_token * params.y_row_stride + output;
  const T* residual =
      static_cast<const T*>(params.residual) + first_token * params.residual_row_stride + output;
#pragma unroll
  for (int batch = 0; batch < Traits::kChunks; batch += kBatch) {
    float2 addend[kBatch][2];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) addend[i][j] = make_float2(kNothing, kNothing);
    }
    if (params.residual != nullptr) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (Traits::OwnerOf(batch + i) == summand) {
          const int token = first_token + 8 * (batch + i);
          addend[i][0] = LoadPair(residual, access_of(token));
          addend[i][1] = LoadPair(residual + params.residual_row_stride, access_of(token + 1));
        }
        residual += 8 * params.residual_row_stride;
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int chunk = batch + i;
      if (Traits::OwnerOf(chunk) == summand) {
        const int offset = 8 * chunk + me.first_token;
        const float2 scale = *reinterpret_cast<const float2*>(&factors.scale[offset]);
        const int2 excess = Traits::kIsBiased
                                ? *reinterpret_cast<const int2*>(&factors.excess[offset])
                                : make_int2(0, 0);
        const auto value_of = [&](int j, float token_scale, int token_excess) {
          const auto sum_x = static_cast<float>(acc[4 * chunk + j] - token_excess);
          const auto sum_y = static_cast<float>(acc[4 * chunk + 2 + j] - token_excess);
          return make_float2(
              (sum_x * (outputs.scale.x * token_scale) + outputs.bias.x) + addend[i][j].x,
              (sum_y * (outputs.scale.y * token_scale) + outputs.bias.y) + addend[i][j].y);
        };
        const int token = first_token + 8 * chunk;
        StorePair(y, value_of(0, scale.x, excess.x), access_of(token));
        StorePair(y + params.y_row_stride, value_of(1, scale.y, excess.y), access_of(token + 1));
      }
      y += 8 * params.y_row_stride;
    }
  }
}

// ---------------------------------------------------------------------------------------------

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

template <int kTileTokens>
__device__ __forceinline__ void StoreFactors(const TokenScalars& scalars, int thread_idx,
                                             TokenFactors<kTileTokens>& factors) {
  if (thread_idx >= kTileTokens) return;
  factors.scale[thread_idx] = scalars.scale;
  factors.exponent[thread_idx] = scalars.exponent;
  factors.excess[thread_idx] =
      128 * ((scalars.code_sum.x << scalars.exponent) + scalars.code_sum.y);
}

template <typename Traits>
__device__ void Consume(const GemmParams& params, const Work<Traits>& work,
                        SmemLayout<Traits>& smem, int warpgroup_idx) {
  const Consumer<Traits> me(warpgroup_idx);
  Multiplier<Traits> multiplier(smem, me);
  Tile tile = work.TileOf(work.first_tile);
  cuda::WaitForPreviousGrids();
  // One token a thread, on their way while the tile before is stored.
  TokenScalars scalars = LoadScalars<Traits>(params, tile, me.thread_idx());
  int parity = 0;
  for (int tile_idx = work.first_tile; tile_idx < work.num_tiles; tile_idx += work.tile_stride) {
    TokenFactors<Traits::kTileTokens>& factors = smem.factors[parity];
    parity ^= 1;
    StoreFactors(scalars, me.thread_idx(), factors);
    // After it the factors are whole, and all have left the tile before the last: its factors and
    // the partial sums may be overwritten.
    ptx::SyncThreads(kConsumerBarrier, Traits::kConsumerThreads);

    const int output = tile.row_idx * kUnitOutputs * Traits::kRowGroups + me.first_output;
    OutputFactors outputs;
    if constexpr (Traits::kLoadsOutputsEarly) outputs = LoadOutputFactors(params, output);
    int32_t acc[Traits::kTileTokens / 2];
    Accumulate(params, work, me, factors, multiplier, acc);
    Tile next_tile = tile;
    if (tile_idx + work.tile_stride < work.num_tiles) {
      next_tile = work.TileOf(tile_idx + work.tile_stride);
      scalars = LoadScalars<Traits>(params, next_tile, me.thread_idx());
    }
    if constexpr (Traits::kSummands > 1) {
      if constexpr (!Traits::kLoadsOutputsEarly) outputs = LoadOutputFactors(params, output);
      AddPartials(work, me, smem, acc);
    }
    const bool is_whole =
        params.stores_pairs &&
        (tile.row_idx + 1) * kUnitOutputs * Traits::kRowGroups <= params.num_outputs &&
        (tile.token_idx + 1) * Traits::kTileTokens <= params.num_tokens;
    const auto store = [&]<typename T, bool kIsWhole>() {
      StoreTile<Traits, T, kIsWhole>(params, work, me, tile, factors, outputs, acc);
    };
    if (params.is_half) {
      is_whole ? store.template operator()<__half, true>()
               : store.template operator()<__half, false>();
    } else {
      is_whole ? store.template operator()<float, true>()
               : store.template operator()<float, false>();
    }
    tile = next_tile;
  }
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
