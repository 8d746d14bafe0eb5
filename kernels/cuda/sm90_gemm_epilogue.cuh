#pragma once

#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/sm90_gemm_consumer.cuh"

// From exact sums to y: partial sums added, scale, bias, residual, stores.
namespace comet::sm90 {

constexpr int kFirstGroupBarrier = 1;  // Of row group 0; barrier 0 is the CTA's.

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
    ptx::SyncThreads(kFirstGroupBarrier + me.row_group, Traits::kGroupThreads);
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
__device__ __forceinline__ float2 ToFloats(const Pair<T>& pair) {
  return make_float2(ToFloat(pair.x), ToFloat(pair.y));
}

template <typename T>
__device__ __forceinline__ Pair<T> LoadPair(const T* x, const PairAccess& access) {
  if (access.is_pair) return *reinterpret_cast<const Pair<T>*>(x);
  Pair<T> pair = {static_cast<T>(kNothing), static_cast<T>(kNothing)};
  if (access.has_first) pair.x = x[0];
  if (access.has_second) pair.y = x[1];
  return pair;
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

// y of one token and this thread's two outputs from exact sums. kIsPlain: no bias, no addend.
template <bool kIsPlain>
__device__ __forceinline__ float2 ValueOf(int32_t sum_x, int32_t sum_y, float token_scale,
                                          const OutputFactors& outputs, float2 addend) {
  const float x = static_cast<float>(sum_x) * (outputs.scale.x * token_scale);
  const float y = static_cast<float>(sum_y) * (outputs.scale.y * token_scale);
  if constexpr (kIsPlain) return make_float2(x, y);
  return make_float2((x + outputs.bias.x) + addend.x, (y + outputs.bias.y) + addend.y);
}

// f16 y of a whole row group's 64 outputs, without a residual, through shared memory: stores of
// whole lines by the copy engine, while the next tile is multiplied. Straight stores of 32 bytes a
// token take as long as four blocks' products at 256 tokens. The first box filled is `first_box`;
// the tile before must have filled the other one last. kIsPlain: no bias.
template <typename Traits, bool kIsPlain>
__device__ __forceinline__ void StoreBoxes(const GemmParams& params, const Consumer<Traits>& me,
                                           Tile tile, const TokenFactors<Traits>& factors,
                                           const OutputFactors& outputs, SmemLayout<Traits>& smem,
                                           int first_box,
                                           const int32_t (&acc)[Traits::kTileTokens / 2]) {
  constexpr int kBoxChunks = Traits::kBoxTokens / 8;
  constexpr int kNumBoxes = Traits::kNumBoxes;
  constexpr int kRowBytes = kUnitOutputs * 2;
  const int row_output = (tile.row_idx * Traits::kRowGroups + me.row_group) * kUnitOutputs;
  const int tile_token = tile.token_idx * Traits::kTileTokens;
  // The 16 bytes that hold this thread's pair lie at their place ^ (token % 8).
  const int pair_byte = (me.first_output - me.row_group * kUnitOutputs) * 2;
  const auto place_of = [&](int j) {
    const int row = me.first_token + j;
    return row * kRowBytes + (((pair_byte / 16) ^ row) * 16 + pair_byte % 16);
  };
  const int places[2] = {place_of(0), place_of(1)};
  // Read a box ahead: no load may pass a store to shared memory, so each would be waited for.
  float2 next_scale[kBoxChunks];
  int2 next_excess[kBoxChunks];
  const auto load_factors = [&](int box_idx) {
#pragma unroll
    for (int i = 0; i < kBoxChunks; ++i) {
      const int offset = 8 * (box_idx * kBoxChunks + i) + me.first_token;
      next_scale[i] = *reinterpret_cast<const float2*>(&factors.scale[offset]);
      next_excess[i] = Traits::kIsBiased ? *reinterpret_cast<const int2*>(&factors.excess[offset])
                                         : make_int2(0, 0);
    }
  };
  load_factors(0);
#pragma unroll
  for (int box_idx = 0; box_idx < kNumBoxes; ++box_idx) {
    float2 scale[kBoxChunks];
    int2 excess[kBoxChunks];
#pragma unroll
    for (int i = 0; i < kBoxChunks; ++i) {
      scale[i] = next_scale[i];
      excess[i] = next_excess[i];
    }
    if (box_idx + 1 < kNumBoxes) load_factors(box_idx + 1);
    uint8_t* const box = smem.boxes[me.row_group][(first_box + box_idx) % 2];
#pragma unroll
    for (int i = 0; i < kBoxChunks; ++i) {
      const int chunk = box_idx * kBoxChunks + i;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int token_excess = j == 0 ? excess[i].x : excess[i].y;
        const float2 value = ValueOf<kIsPlain>(
            acc[4 * chunk + j] - token_excess, acc[4 * chunk + 2 + j] - token_excess,
            j == 0 ? scale[i].x : scale[i].y, outputs, make_float2(kNothing, kNothing));
        *reinterpret_cast<__half2*>(box + places[j] + i * 8 * kRowBytes) = __float22half2_rn(value);
      }
    }
    ptx::FenceForAsyncReaders();
    // Once all have come, this box is filled and the other one has been read.
    if (me.warpgroup_thread == 0) ptx::WaitStoresRead();
    ptx::SyncThreads(kFirstGroupBarrier + me.row_group, Traits::kGroupThreads);
    if (me.warpgroup_thread == 0) {
      ptx::StoreBox(&params.y_boxes, row_output * 2, tile_token + box_idx * Traits::kBoxTokens,
                    box);
      ptx::CommitStores();
    }
  }
}

// y of this thread's outputs and chunks from its exact sums: scale, bias, residual, one rounding.
// kIsWhole: the tile lies within y, and pairs can be stored; straight code then, which at 256
// tokens is as long as five blocks' products.
template <typename Traits, typename T, bool kIsWhole>
__device__ __forceinline__ void StoreTile(const GemmParams& params, const Work<Traits>& work,
                                          const Consumer<Traits>& me, Tile tile,
                                          const TokenFactors<Traits>& factors,
                                          const OutputFactors& outputs,
                                          const int32_t (&acc)[Traits::kTileTokens / 2]) {
  // Chunks whose residuals load together, while those of the batch before are added: y may be the
  // residual, so that no load passes a store by itself.
  constexpr int kBatch = std::min(sizeof(T) == 2 ? 8 : 4, Traits::kChunks);
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
  Pair<T> next_addend[kBatch][2];
  const auto load_addends = [&](int batch) {
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int chunk = batch + i;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        next_addend[i][j] = {static_cast<T>(kNothing), static_cast<T>(kNothing)};
        if (params.residual != nullptr && chunk < Traits::kChunks &&
            Traits::OwnerOf(chunk) == summand) {
          next_addend[i][j] = LoadPair(residual + j * params.residual_row_stride,
                                       access_of(first_token + 8 * chunk + j));
        }
      }
      residual += 8 * params.residual_row_stride;
    }
  };
  load_addends(0);
#pragma unroll
  for (int batch = 0; batch < Traits::kChunks; batch += kBatch) {
    Pair<T> addend[kBatch][2];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) addend[i][j] = next_addend[i][j];
    }
    if (batch + kBatch < Traits::kChunks) load_addends(batch + kBatch);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int chunk = batch + i;
      if (chunk < Traits::kChunks && Traits::OwnerOf(chunk) == summand) {
        const int offset = 8 * chunk + me.first_token;
        const float2 scale = *reinterpret_cast<const float2*>(&factors.scale[offset]);
        const int2 excess = Traits::kIsBiased
                                ? *reinterpret_cast<const int2*>(&factors.excess[offset])
                                : make_int2(0, 0);
        const auto value_of = [&](int j, float token_scale, int token_excess) {
          return ValueOf</*kIsPlain=*/false>(acc[4 * chunk + j] - token_excess,
                                             acc[4 * chunk + 2 + j] - token_excess, token_scale,
                                             outputs, ToFloats(addend[i][j]));
        };
        const int token = first_token + 8 * chunk;
        StorePair(y, value_of(0, scale.x, excess.x), access_of(token));
        StorePair(y + params.y_row_stride, value_of(1, scale.y, excess.y), access_of(token + 1));
      }
      y += 8 * params.y_row_stride;
    }
  }
}

// y of a tile, the quickest way that its place in memory allows. `parity` alternates from tile to
// tile.
template <typename Traits>
__device__ __forceinline__ void StoreY(const GemmParams& params, const Work<Traits>& work,
                                       const Consumer<Traits>& me, Tile tile,
                                       const TokenFactors<Traits>& factors,
                                       const OutputFactors& outputs, SmemLayout<Traits>& smem,
                                       int parity, const int32_t (&acc)[Traits::kTileTokens / 2]) {
  if constexpr (Traits::kBoxTokens > 0) {
    if (params.stores_boxes) {
      const int first_box = Traits::kNumBoxes % 2 == 0 ? 0 : parity;
      params.bias == nullptr
          ? StoreBoxes<Traits, true>(params, me, tile, factors, outputs, smem, first_box, acc)
          : StoreBoxes<Traits, false>(params, me, tile, factors, outputs, smem, first_box, acc);
      return;
    }
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
    is_whole ? store.template operator()<float, true>() : store.template operator()<float, false>();
  }
}

}  // namespace comet::sm90
