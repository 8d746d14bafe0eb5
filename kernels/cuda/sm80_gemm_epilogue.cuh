#pragma once

#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/device/ptx_pointer.cuh"
#include "kernels/cuda/sm80_gemm_exchange.cuh"

// From a tile's exact sums to y: scale, bias, residual, one rounding.
namespace comet::sm80 {

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(__half value) { return __half2float(value); }
__device__ __forceinline__ void Store(float* y, float value) { *y = value; }
__device__ __forceinline__ void Store(__half* y, float value) { *y = __float2half_rn(value); }

constexpr int kThreadOutputs = 8;

// A thread's n-th token, from its first one on.
constexpr int64_t TokenOf(int n) { return 8 * (n / 2) + n % 2; }

// A token's outputs of one thread, as words: halves apart would take a register each.
template <typename T>
struct OutputVector {
  static constexpr int kVectors = sizeof(T) * kThreadOutputs / 16;
  uint4 words[kVectors] = {};

  __device__ __forceinline__ void Load(const T* x) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) words[i] = reinterpret_cast<const uint4*>(x)[i];
  }
  __device__ __forceinline__ void Store(T* y) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) __stwb(reinterpret_cast<uint4*>(y) + i, words[i]);
  }
  __device__ __forceinline__ uint32_t& word(int i) {
    uint4& vector = words[i / 4];
    return i % 4 == 0 ? vector.x : i % 4 == 1 ? vector.y : i % 4 == 2 ? vector.z : vector.w;
  }
  // Outputs 2 i and 2 i + 1.
  __device__ __forceinline__ float2 Pair(int i) {
    if constexpr (sizeof(T) == 2) {
      return __half22float2(*reinterpret_cast<__half2*>(&word(i)));
    } else {
      return make_float2(__uint_as_float(word(2 * i)), __uint_as_float(word(2 * i + 1)));
    }
  }
  __device__ __forceinline__ void SetPair(int i, float2 value) {
    if constexpr (sizeof(T) == 2) {
      *reinterpret_cast<__half2*>(&word(i)) = __float22half2_rn(value);
    } else {
      word(2 * i) = __float_as_uint(value.x);
      word(2 * i + 1) = __float_as_uint(value.y);
    }
  }
};

// Where a thread's part of a tile lies in y.
template <typename Traits>
struct Place {
  __device__ Place(const GemmParams& params, const Piece& piece, const Worker<Traits>& me) {
    const TilePlace tile = PlaceOf(params, piece.tile_idx);
    output = tile.row * Traits::kTileOutputs + me.row_warp * kUnitOutputs +
             me.lane_idx / 4 * kThreadOutputs;
    token_in_tile = me.token_warp * Traits::kWarpTokens + me.lane_idx % 4 * 2;
    token = tile.token * Traits::kTileTokens + token_in_tile;
  }

  int output;         // The first of eight.
  int token_in_tile;  // The first of kTokens, which are TokenOf(n) further.
  int token;
};

// y of a thread's eight outputs of each token, as vectors; kHasAddends: with bias or residual.
template <typename Traits, typename T, bool kHasAddends>
__device__ __forceinline__ void StoreVectors(const GemmParams& params, const Place<Traits>& place,
                                             const Sums<Traits>& acc,
                                             const TokenFactors<Traits::kTileTokens>& factors) {
  constexpr int kTokens = 2 * Traits::kTokenFrags;
  constexpr int kAhead = 2;  // Each two registers an output of f32.
  const bool has_bias = kHasAddends && params.bias != nullptr;
  const bool has_residual = kHasAddends && params.residual != nullptr;
  float scale[kThreadOutputs];
  float bias[kThreadOutputs];
#pragma unroll
  for (int i = 0; i < kThreadOutputs; ++i) {
    scale[i] = params.weight_scale[place.output + i];
    bias[i] = has_bias ? params.bias[place.output + i] : 0.0f;
  }
  const int tokens_left = params.num_tokens - place.token;
  // From a thread's token n to its next: see TokenOf().
  const auto rows_to_next = [](int n) { return n % 2 == 0 ? 1 : 7; };
  uint32_t y_bytes = static_cast<uint32_t>(params.y_row_stride * sizeof(T));
  ptx::Forget(y_bytes);  // Else it is loaded for each token.
  T* y_row = static_cast<T*>(params.y) + place.token * params.y_row_stride + place.output;
  const T* residual_row = static_cast<const T*>(params.residual) +
                          place.token * params.residual_row_stride + place.output;
  // Residuals load some tokens ahead of the stores, which the compiler cannot move: y may be the
  // residual.
  OutputVector<T> residual[kAhead];
  const auto load_residual = [&](int n) {
    if (!has_residual) return;
    if (TokenOf(n) < tokens_left) {
      residual[n % kAhead].Load(residual_row);
    }
    residual_row += rows_to_next(n) * params.residual_row_stride;
  };
#pragma unroll
  for (int n = 0; n < kAhead; ++n) load_residual(n);
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    const float token_scale = factors.scale[place.token_in_tile + TokenOf(n)];
    const int excess = factors.excess[place.token_in_tile + TokenOf(n)];
    OutputVector<T> vector;
    const auto value = [&](int i) {
      const int sum = acc[i / 2][n / 2][2 * (i % 2) + n % 2] - excess;
      const float y = static_cast<float>(sum) * (scale[i] * token_scale);
      return has_bias ? y + bias[i] : y;
    };
#pragma unroll
    for (int i = 0; i < kThreadOutputs / 2; ++i) {
      float2 y = make_float2(value(2 * i), value(2 * i + 1));
      if (has_residual) {
        const float2 addend = residual[n % kAhead].Pair(i);
        y = make_float2(y.x + addend.x, y.y + addend.y);
      }
      vector.SetPair(i, y);
    }
    if (n + kAhead < kTokens) load_residual(n + kAhead);
    if (TokenOf(n) < tokens_left) vector.Store(y_row);
    ptx::Advance(y_row, rows_to_next(n) * y_bytes);
  }
}

// The same one by one: outputs past N, or rows that are not aligned. The sums pass through a slot
// of this CTA's, so that the loop is short and indexes no registers.
template <typename Traits, typename T>
__device__ __forceinline__ void StoreElements(const GemmParams& params, const Place<Traits>& place,
                                              const Sums<Traits>& acc,
                                              const TokenFactors<Traits::kTileTokens>& factors,
                                              const Worker<Traits>& me) {
  int4* const sums = SlotOf<Traits>(params, static_cast<int>(blockIdx.x), 2, me);
  StoreSums<Traits>(sums, acc);
#pragma unroll 1
  for (int n = 0; n < 2 * Traits::kTokenFrags; ++n) {
    const int64_t token = place.token + TokenOf(n);
    if (token >= params.num_tokens) return;
    const float token_scale = factors.scale[place.token_in_tile + TokenOf(n)];
    const int excess = factors.excess[place.token_in_tile + TokenOf(n)];
#pragma unroll 1
    for (int i = 0; i < min(kThreadOutputs, params.num_outputs - place.output); ++i) {
      const int output = place.output + i;
      const int frag = i / 2 * Traits::kTokenFrags + n / 2;
      const int* words = reinterpret_cast<const int*>(sums + frag * Traits::kGroupThreads);
      const int sum = __ldcg(words + 2 * (i % 2) + n % 2) - excess;
      float y = static_cast<float>(sum) * (params.weight_scale[output] * token_scale);
      if (params.bias != nullptr) y += params.bias[output];
      if (params.residual != nullptr) {
        y += ToFloat(
            static_cast<const T*>(params.residual)[token * params.residual_row_stride + output]);
      }
      Store(static_cast<T*>(params.y) + token * params.y_row_stride + output, y);
    }
  }
}

// y of a tile from its exact sums: scale, bias, residual, one rounding.
template <typename Traits, typename T>
__device__ __forceinline__ void StoreTile(const GemmParams& params, const Piece& piece,
                                          const Sums<Traits>& acc,
                                          const TokenFactors<Traits::kTileTokens>& factors,
                                          const Worker<Traits>& me) {
  const Place<Traits> place(params, piece, me);
  if (params.stores_vectors && place.output + kThreadOutputs <= params.num_outputs) {
    // Of wide tiles' time the difference is a part.
    if (Traits::kIsWide && params.bias == nullptr && params.residual == nullptr) {
      StoreVectors<Traits, T, /*kHasAddends=*/false>(params, place, acc, factors);
    } else {
      StoreVectors<Traits, T, /*kHasAddends=*/true>(params, place, acc, factors);
    }
  } else {
    StoreElements<Traits, T>(params, place, acc, factors, me);
  }
}

}  // namespace comet::sm80
