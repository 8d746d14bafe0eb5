#pragma once

#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/device/ptx_global_atomic.cuh"
#include "kernels/cuda/device/ptx_pointer.cuh"
#include "kernels/cuda/sm80_gemm_multiply.cuh"

// From a piece's sums to y: sums of other k groups and CTAs added, then scale, bias, residual.
namespace comet::sm80 {

__device__ __forceinline__ void Add(int (&acc)[4], const int4& part) {
  acc[0] += part.x;
  acc[1] += part.y;
  acc[2] += part.z;
  acc[3] += part.w;
}

// Adds what the CTA's other k groups have to the first one's sums.
template <typename Traits>
__device__ __forceinline__ void AddKGroups(Sums<Traits>& acc, SmemLayout<Traits>& smem,
                                           const Worker<Traits>& me) {
  const auto place = [&](int group, int frag) {
    return &smem.sums[((group - 1) * Traits::kRoundFrags + frag % Traits::kRoundFrags) *
                          Traits::kGroupThreads +
                      me.group_thread];
  };
#pragma unroll
  for (int first = 0; first < Traits::kFrags; first += Traits::kRoundFrags) {
    if (me.k_group != 0) {
#pragma unroll
      for (int i = first; i < first + Traits::kRoundFrags; ++i) {
        const int(&sum)[4] = acc[i / Traits::kTokenFrags][i % Traits::kTokenFrags];
        *place(me.k_group, i) = make_int4(sum[0], sum[1], sum[2], sum[3]);
      }
    }
    __syncthreads();
    if (me.k_group == 0) {
#pragma unroll
      for (int group = 1; group < Traits::kKGroups; ++group) {
#pragma unroll
        for (int i = first; i < first + Traits::kRoundFrags; ++i) {
          Add(acc[i / Traits::kTokenFrags][i % Traits::kTokenFrags], *place(group, i));
        }
      }
    }
    __syncthreads();  // They are read: the next may come.
  }
}

template <typename Traits>
__device__ __forceinline__ int4* PassedSums(SmemLayout<Traits>& smem, int group, int frag,
                                            const Worker<Traits>& me) {
  return smem.sums +
         (group * Traits::kRoundFrags + frag % Traits::kRoundFrags) * Traits::kGroupThreads +
         me.group_thread;
}

// Passes the k groups' sums of a piece to the finisher. All meet twice a round: where it has taken
// the sums before, to which it comes late if it has not stored those of the piece before, and where
// the others' are there.
template <typename Traits>
__device__ __forceinline__ void PassSums(Sums<Traits>& acc, SmemLayout<Traits>& smem,
                                         const Worker<Traits>& me, bool is_first_piece) {
#pragma unroll
  for (int first = 0; first < Traits::kFrags; first += Traits::kRoundFrags) {
    if (first > 0 || !is_first_piece) __syncthreads();
    if (!me.is_finisher()) {
#pragma unroll
      for (int i = first; i < first + Traits::kRoundFrags; ++i) {
        const int(&sum)[4] = acc[i / Traits::kTokenFrags][i % Traits::kTokenFrags];
        *PassedSums(smem, me.k_group, i, me) = make_int4(sum[0], sum[1], sum[2], sum[3]);
      }
    }
    __syncthreads();
    if (me.is_finisher()) {
#pragma unroll
      for (int i = first; i < first + Traits::kRoundFrags; ++i) {
        int(&sum)[4] = acc[i / Traits::kTokenFrags][i % Traits::kTokenFrags];
        sum[0] = sum[1] = sum[2] = sum[3] = 0;
#pragma unroll
        for (int group = 0; group < Traits::kKGroups; ++group) {
          Add(sum, *PassedSums(smem, group, i, me));
        }
      }
    }
  }
}

// Two sums in one word to be added to: the upper one takes what the lower one borrows.
__device__ __forceinline__ unsigned long long PairOf(int low, int high) {
  return static_cast<unsigned long long>(static_cast<uint32_t>(high + (low >> 31))) << 32 |
         static_cast<uint32_t>(low);
}

// A thread's pairs of sums in a tile of partials; a warp's lie side by side.
template <typename Traits>
__device__ __forceinline__ unsigned long long* PairsOf(const GemmParams& params, int split_idx,
                                                       const Worker<Traits>& me) {
  return params.partials + int64_t{split_idx} * (Traits::kTileSums / 2) + me.group_thread;
}

template <typename Traits>
__device__ __forceinline__ void AddPairs(unsigned long long* pairs, const Sums<Traits>& acc) {
#pragma unroll
  for (int i = 0; i < 2 * Traits::kFrags; ++i) {
    const int(&sum)[4] = acc[i / 2 / Traits::kTokenFrags][i / 2 % Traits::kTokenFrags];
    atomicAdd(pairs + i * Traits::kGroupThreads, PairOf(sum[i % 2 * 2], sum[i % 2 * 2 + 1]));
  }
}

// Takes a tile's sums and leaves zeros.
template <typename Traits>
__device__ __forceinline__ void TakePairs(Sums<Traits>& acc, unsigned long long* pairs) {
#pragma unroll
  for (int i = 0; i < 2 * Traits::kFrags; ++i) {
    int(&sum)[4] = acc[i / 2 / Traits::kTokenFrags][i / 2 % Traits::kTokenFrags];
    const unsigned long long pair = __ldcg(pairs + i * Traits::kGroupThreads);
    sum[i % 2 * 2] = static_cast<int>(pair);
    sum[i % 2 * 2 + 1] = static_cast<int>(pair >> 32);
  }
#pragma unroll
  for (int i = 0; i < 2 * Traits::kFrags; ++i) {
    int(&sum)[4] = acc[i / 2 / Traits::kTokenFrags][i / 2 % Traits::kTokenFrags];
    sum[i % 2 * 2 + 1] -= sum[i % 2 * 2] >> 31;
    __stcg(pairs + i * Traits::kGroupThreads, 0ull);
  }
}

// Where a CTA leaves the sums of a tile that it shares, for this thread: 0 for its first such tile,
// 1 for its last; and 2 for a tile that it stores (StoreElements()). Fragments lie kGroupThreads
// apart.
template <typename Traits>
__device__ __forceinline__ int4* SlotOf(const GemmParams& params, int cta, int slot,
                                        const Worker<Traits>& me) {
  return params.slots + int64_t{kSlots * cta + slot} * Traits::kFrags * Traits::kGroupThreads +
         me.group_thread;
}

template <typename Traits>
__device__ __forceinline__ void StoreSums(int4* slot, const Sums<Traits>& acc) {
#pragma unroll
  for (int i = 0; i < Traits::kFrags; ++i) {
    const int(&sum)[4] = acc[i / Traits::kTokenFrags][i % Traits::kTokenFrags];
    __stcg(slot + i * Traits::kGroupThreads, make_int4(sum[0], sum[1], sum[2], sum[3]));
  }
}

// Adds what other CTAs have of a split tile.
template <typename Traits>
__device__ __forceinline__ void AddSlots(Sums<Traits>& acc, const GemmParams& params, int split_idx,
                                         const Worker<Traits>& me) {
  constexpr int kAhead = 16;  // Loads under way: each waits for L2.
  static_assert(Traits::kFrags % kAhead == 0);
  const SplitPoint* boundary = params.split.boundary;
  const int cta_idx = static_cast<int>(blockIdx.x);
  // A CTA has part of the tile if its boundaries are not both before or both after it.
  const auto begins_before_end = [&](int cta) { return boundary[cta].tile <= split_idx; };
  const auto begins_after_start = [&](int cta) {
    return boundary[cta].tile > split_idx ||
           (boundary[cta].tile == split_idx && boundary[cta].block > 0);
  };
  int first_cta = cta_idx;
  while (first_cta > 0 && begins_after_start(first_cta)) --first_cta;
#pragma unroll 1
  for (int cta = first_cta; cta < params.split.num_ctas && begins_before_end(cta); ++cta) {
    if (cta == cta_idx || boundary[cta] == boundary[cta + 1]) continue;
    const int4* slot = SlotOf<Traits>(params, cta, boundary[cta].tile < split_idx ? 1 : 0, me);
#pragma unroll
    for (int first = 0; first < Traits::kFrags; first += kAhead) {
      int4 parts[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        parts[i] = ptx::LoadFromL2(slot + (first + i) * Traits::kGroupThreads);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int frag = first + i;
        Add(acc[frag / Traits::kTokenFrags][frag % Traits::kTokenFrags], parts[i]);
      }
    }
  }
}

// Adds up the pieces of a tile that CTAs share, in the threads of the first k group or of the
// finisher. Returns whether this CTA was the tile's last, and acc then holds the whole tile's sums.
// Sums are integers, so the order in which CTAs come does not matter.
template <typename Traits>
__device__ bool CollectPieces(const GemmParams& params, const Piece& piece, Sums<Traits>& acc,
                              SmemLayout<Traits>& smem, const Worker<Traits>& me) {
  const int num_blocks = params.num_int8_blocks + params.num_int4_blocks;
  const int split_idx = piece.tile_idx - params.split.num_whole_tiles;
  int32_t* const progress = params.progress + split_idx;
  const int blocks_others = num_blocks - (piece.end - piece.begin);
  // Counts this piece as done. Returns whether all others were.
  const auto finish = [&] {
    me.SyncGroup();
    if (me.group_thread == 0) {
      smem.blocks_before = ptx::AddAcquireRelease(progress, piece.end - piece.begin);
    }
    me.SyncGroup();
    return smem.blocks_before == blocks_others;
  };
  if constexpr (Traits::kConfig.adds_in_memory()) {
    unsigned long long* const pairs = PairsOf<Traits>(params, split_idx, me);
    AddPairs<Traits>(pairs, acc);
    if (!finish()) return false;
    TakePairs<Traits>(acc, pairs);
  } else {
    const int cta_idx = static_cast<int>(blockIdx.x);
    if (me.group_thread == 0) smem.blocks_before = ptx::LoadAcquire(progress);
    me.SyncGroup();
    if (smem.blocks_before != blocks_others) {  // Else nobody wants these.
      const bool is_second = params.split.boundary[cta_idx].tile < split_idx;
      StoreSums<Traits>(SlotOf<Traits>(params, cta_idx, is_second ? 1 : 0, me), acc);
      if (!finish()) return false;
    }
    AddSlots<Traits>(acc, params, split_idx, me);
  }
  if (me.group_thread == 0) *progress = 0;
  return true;
}

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
