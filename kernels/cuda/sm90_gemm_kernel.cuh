#pragma once

#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/base/math.h"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/device/ptx_grid.cuh"
#include "kernels/cuda/device/ptx_wgmma.cuh"
#include "kernels/cuda/sm90_gemm_params.h"
#include "kernels/cuda/sm90_w4ax_layout.h"

// y = x * W^T for W4Ax weights on Hopper, as y^T = W * x^T: weights are the register operand of
// wgmma, tokens the shared one.
//
// Mapping  A persistent CTA takes whole tiles of 64 * row_groups outputs x tile_tokens tokens. One
//          thread of the first warpgroup keeps a ring of stages filled with weight units and token
//          codes; each other warpgroup turns its unit into bytes, multiplies, and frees the stage.
//          Warpgroups that share outputs (k_groups, cluster_k) take turns at the blocks and add
//          their sums in shared memory.
// Traffic  HBM: weights once (4.06 bits each), tokens, y. L2 to SM: weights once a token tile,
//          tokens once a row tile. wgmma: 64 x 32 x N products in N / 2 cycles of an SM.
// Limits   Token rows 16-byte aligned, for the copy engine.
namespace comet::sm90 {

constexpr int kWarpgroupThreads = 128;
constexpr int kWarpThreads = 32;
// A CTA's limit on sm_90, alone on its multiprocessor or with another.
constexpr int SmemBytesMax(int ctas_per_sm) { return (ctas_per_sm == 1 ? 227 : 113) * 1024; }
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
  static constexpr bool kIsBiased = kTileTokens < 256;
  // Registers a thread once the producer's warpgroup has given most of its own away; at entry all
  // have the same, rounded down to a multiple of 8.
  static constexpr int kProducerRegisters = kConfig.ctas_per_sm == 1 ? 56 : 32;
  static constexpr int kEntryRegisters = 65536 / kConfig.ctas_per_sm / kThreads / 8 * 8;
  static constexpr int kConsumerRegisters =
      (kEntryRegisters * (kConsumers + 1) - kProducerRegisters) / kConsumers / 8 * 8;

  static constexpr int kTokenBytes = kTileTokens * kUnitChannels;
  static constexpr int kStageBytes = kKGroups * kTokenBytes + kConsumers * kUnitBytes;
  static constexpr int kPartialBytes =
      kSummands == 1 ? 0 : kChunksPerCta * (kSummands - 1) * kWarpgroupThreads * 16 * kRowGroups;
  static constexpr int kFixedBytes = kPartialBytes + 2 * kTileTokens * 12 + 1024;
  static constexpr int kStages =
      std::min(20, (SmemBytesMax(kConfig.ctas_per_sm) - kFixedBytes) / kStageBytes);
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
// Producer: one thread.

template <typename Traits>
__device__ __forceinline__ void LoadUnits(const GemmParams& params, const Work<Traits>& work,
                                          SmemLayout<Traits>& smem, int stage_idx, Tile tile,
                                          int first_step, int num_steps) {
#pragma unroll
  for (int row_group = 0; row_group < Traits::kRowGroups; ++row_group) {
    // Row groups past the last unit row load it again; nothing of theirs is stored.
    const int unit_row =
        min(tile.row_idx * Traits::kRowGroups + row_group, params.num_unit_rows - 1);
    const uint8_t* units =
        params.units + (int64_t{unit_row} * work.num_blocks + first_step) * kUnitBytes;
    ptx::CopyBytes(smem.units[stage_idx][row_group * Traits::kKGroups], units,
                   num_steps * kUnitBytes, &smem.full[stage_idx],
                   work.num_token_tiles == 1 ? ptx::kEvictFirst : ptx::kEvictNormal);
  }
}

template <typename Traits>
__device__ __forceinline__ void LoadTokens(const GemmParams& params, SmemLayout<Traits>& smem,
                                           int stage_idx, Tile tile, int first_step,
                                           int num_steps) {
#pragma unroll
  for (int i = 0; i < Traits::kKGroups; ++i) {
    if (i >= num_steps) break;
    const int block_idx =
        BlockOfStep(first_step + i, params.num_int4_blocks, params.num_int8_blocks);
    ptx::CopyBox(smem.tokens[stage_idx][i], &params.codes, block_idx * kUnitChannels,
                 tile.token_idx * Traits::kTileTokens, &smem.full[stage_idx], ptx::kEvictNormal);
  }
}

// Fills the ring. Weights never change, so those of the first stages are on their way before the
// kernel that writes the tokens has ended.
template <typename Traits>
__device__ void Produce(const GemmParams& params, const Work<Traits>& work,
                        SmemLayout<Traits>& smem) {
  const auto first_step_of = [&](int round) { return work.first_step + round * Traits::kSummands; };
  const auto num_steps_of = [&](int round) {
    return min(Traits::kKGroups, work.num_blocks - first_step_of(round));
  };
  const auto expect = [&](int stage_idx, int num_steps) {
    ptx::ArriveAndExpect(&smem.full[stage_idx],
                         num_steps * (Traits::kTokenBytes + Traits::kRowGroups * kUnitBytes));
  };

  const Tile first_tile = work.TileOf(work.first_tile);
  const int num_early = min(Traits::kStages, work.num_rounds);
  for (int round = 0; round < num_early; ++round) {
    expect(round, num_steps_of(round));
    LoadUnits(params, work, smem, round, first_tile, first_step_of(round), num_steps_of(round));
  }
  ptx::WaitForDependencies();
  for (int round = 0; round < num_early; ++round) {
    LoadTokens(params, smem, round, first_tile, first_step_of(round), num_steps_of(round));
  }

  RingCursor<Traits> cursor{.stage_idx = num_early % Traits::kStages,
                            .phase = num_early == Traits::kStages};
  int round = num_early;
  for (int tile_idx = work.first_tile; tile_idx < work.num_tiles; tile_idx += work.tile_stride) {
    const Tile tile = work.TileOf(tile_idx);
    for (; round < work.num_rounds; ++round) {
      ptx::Wait(&smem.empty[cursor.stage_idx], cursor.phase ^ 1);
      expect(cursor.stage_idx, num_steps_of(round));
      LoadUnits(params, work, smem, cursor.stage_idx, tile, first_step_of(round),
                num_steps_of(round));
      LoadTokens(params, smem, cursor.stage_idx, tile, first_step_of(round), num_steps_of(round));
      cursor.Advance();
    }
    round = 0;
  }
}

// ---------------------------------------------------------------------------------------------
// Consumer: a warpgroup.

// Who a thread of a consumer warpgroup is.
template <typename Traits>
struct Consumer {
  __device__ explicit Consumer(int thread_idx)
      : thread_idx(thread_idx),
        warpgroup_thread(thread_idx % kWarpgroupThreads),
        lane_idx(thread_idx % kWarpThreads),
        row_group(thread_idx / kWarpgroupThreads / Traits::kKGroups),
        k_group(thread_idx / kWarpgroupThreads % Traits::kKGroups),
        first_output(kUnitOutputs * row_group + warpgroup_thread / kWarpThreads * 16 +
                     lane_idx / 4 * 2),
        first_token(lane_idx % 4 * 2) {}

  const int thread_idx;  // Among all consumers.
  const int warpgroup_thread;
  const int lane_idx;
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

__device__ __forceinline__ PackedOperand LoadOperand(const uint8_t* unit, int warpgroup_thread) {
  const uint4* codes = reinterpret_cast<const uint4*>(unit) + warpgroup_thread;
  const int pair_idx = warpgroup_thread / 4;
  return {.codes = {codes[0], codes[kWarpgroupThreads]},
          .steps = *reinterpret_cast<const uint16_t*>(unit + kUnitCodeBytes + 2 * pair_idx)};
}

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
      : smem(shared),
        me(self),
        first_descriptor(ptx::TileDescriptor(ptx::SharedAddress(shared.tokens[0][self.k_group]))) {}

  // The packed weights of the stage at the cursor, once it is full.
  __device__ __forceinline__ PackedOperand WaitAndLoad() {
    ptx::Wait(&smem.full[cursor.stage_idx], cursor.phase);
    return LoadOperand(smem.units[cursor.stage_idx][me.row_group * Traits::kKGroups + me.k_group],
                       me.warpgroup_thread);
  }

  // By every warp, once it has read all it wants of the stage.
  __device__ __forceinline__ void Release(int stage_idx) {
    if (me.lane_idx == 0) ptx::Arrive(&smem.empty[stage_idx]);
  }

  // Starts the products of one block and, while they run, loads the next block's weights. Frees
  // the stage of the block before, whose products end here at the latest.
  __device__ __forceinline__ void MultiplyBlock(PackedOperand& packed, Operand& operand,
                                                int32_t (&acc)[kAccumulators], int num_left,
                                                bool is_first) {
    Unpack<Traits::kIsBiased>(packed, operand);
    constexpr uint64_t kStageStep = Traits::kKGroups * Traits::kTokenBytes / 16;
    const uint64_t tile = first_descriptor + cursor.stage_idx * kStageStep;
    ptx::FenceProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      ptx::Multiply<Traits::kIsBiased>(acc, operand[i], tile + i * ptx::kStep32);
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
  const Consumer<Traits>& me;
  const uint64_t first_descriptor;
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
template <typename Traits, typename T>
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
    const bool has_first = token < params.num_tokens && output < params.num_outputs;
    const bool has_second = token < params.num_tokens && output + 1 < params.num_outputs;
    return PairAccess{.is_pair = params.stores_pairs && has_second,
                      .has_first = has_first,
                      .has_second = has_second};
  };
  T* const y = static_cast<T*>(params.y) + first_token * params.y_row_stride + output;
  const T* const residual =
      static_cast<const T*>(params.residual) + first_token * params.residual_row_stride + output;
#pragma unroll
  for (int batch = 0; batch < Traits::kChunks; batch += kBatch) {
    float2 addend[kBatch][2];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        addend[i][j] = make_float2(kNothing, kNothing);
        const int token = 8 * (batch + i) + j;
        if (params.residual != nullptr && Traits::OwnerOf(batch + i) == summand) {
          addend[i][j] = LoadPair(residual + token * params.residual_row_stride,
                                  access_of(first_token + token));
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int chunk = batch + i;
      if (Traits::OwnerOf(chunk) != summand) continue;
      const float2 scale =
          *reinterpret_cast<const float2*>(&factors.scale[8 * chunk + me.first_token]);
      const int2 excess =
          Traits::kIsBiased
              ? *reinterpret_cast<const int2*>(&factors.excess[8 * chunk + me.first_token])
              : make_int2(0, 0);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int token = 8 * chunk + j;
        const float token_scale = j == 0 ? scale.x : scale.y;
        const int token_excess = j == 0 ? excess.x : excess.y;
        float2 value = make_float2(
            static_cast<float>(acc[4 * chunk + j] - token_excess) * (outputs.scale.x * token_scale),
            static_cast<float>(acc[4 * chunk + 2 + j] - token_excess) *
                (outputs.scale.y * token_scale));
        value.x = (value.x + outputs.bias.x) + addend[i][j].x;
        value.y = (value.y + outputs.bias.y) + addend[i][j].y;
        StorePair(y + token * params.y_row_stride, value, access_of(first_token + token));
      }
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
__device__ __forceinline__ TokenScalars LoadScalars(const GemmParams& params,
                                                    const Work<Traits>& work, int tile_idx,
                                                    int thread_idx) {
  TokenScalars scalars;
  if (tile_idx >= work.num_tiles || thread_idx >= Traits::kTileTokens) return scalars;
  const int token = work.TileOf(tile_idx).token_idx * Traits::kTileTokens + thread_idx;
  if (token >= params.num_tokens) return scalars;
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
                        SmemLayout<Traits>& smem, int thread_idx) {
  const Consumer<Traits> me(thread_idx);
  Multiplier<Traits> multiplier(smem, me);
  ptx::WaitForDependencies();
  // One token a thread, on their way while the tile before is stored.
  TokenScalars scalars = LoadScalars(params, work, work.first_tile, thread_idx);
  int parity = 0;
  for (int tile_idx = work.first_tile; tile_idx < work.num_tiles; tile_idx += work.tile_stride) {
    const Tile tile = work.TileOf(tile_idx);
    TokenFactors<Traits::kTileTokens>& factors = smem.factors[parity];
    parity ^= 1;
    StoreFactors(scalars, thread_idx, factors);
    // After it the factors are whole, and all have left the tile before the last: its factors and
    // the partial sums may be overwritten.
    ptx::SyncThreads(kConsumerBarrier, Traits::kConsumerThreads);

    const int output = tile.row_idx * kUnitOutputs * Traits::kRowGroups + me.first_output;
    // Early where nothing later hides their latency; else late, to leave registers to the loop.
    OutputFactors outputs;
    if constexpr (Traits::kSummands == 1) outputs = LoadOutputFactors(params, output);
    int32_t acc[Traits::kTileTokens / 2];
    Accumulate(params, work, me, factors, multiplier, acc);
    scalars = LoadScalars(params, work, tile_idx + work.tile_stride, thread_idx);
    if constexpr (Traits::kSummands > 1) {
      outputs = LoadOutputFactors(params, output);
      AddPartials(work, me, smem, acc);
    }
    if (params.is_half) {
      StoreTile<Traits, __half>(params, work, me, tile, factors, outputs, acc);
    } else {
      StoreTile<Traits, float>(params, work, me, tile, factors, outputs, acc);
    }
  }
}

template <int kIdx>
__global__ void __launch_bounds__(GemmTraits<kIdx>::kThreads, GemmTraits<kIdx>::kConfig.ctas_per_sm)
    W4axGemmKernel(const __grid_constant__ GemmParams params) {
  using Traits = GemmTraits<kIdx>;
  extern __shared__ __align__(1024) uint8_t smem_bytes[];
  SmemLayout<Traits>& smem = *reinterpret_cast<SmemLayout<Traits>*>(smem_bytes);
  const int thread_idx = static_cast<int>(threadIdx.x);
  const int warpgroup_idx = thread_idx / kWarpgroupThreads;

  ptx::LaunchDependents();
  if (thread_idx == 0) {
    ptx::PrefetchTensorMap(&params.codes);
    for (int i = 0; i < Traits::kStages; ++i) {
      ptx::InitBarrier(&smem.full[i], 1);
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
    if (thread_idx == 0) Produce(params, work, smem);
  } else {
    ptx::IncreaseRegisters<Traits::kConsumerRegisters>();
    Consume(params, work, smem, thread_idx - kWarpgroupThreads);
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
  static_assert(sizeof(SmemLayout<Traits>) <= SmemBytesMax(Traits::kConfig.ctas_per_sm));
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
