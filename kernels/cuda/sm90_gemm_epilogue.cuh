#pragma once

#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/device/ptx_cluster.cuh"
#include "kernels/cuda/sm90_gemm_consumer.cuh"

// From exact sums to y: partial sums added, scale, bias, residual, stores.
namespace comet::sm90 {

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

}  // namespace comet::sm90
