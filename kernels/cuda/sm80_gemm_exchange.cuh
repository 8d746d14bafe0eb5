#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_global_atomic.cuh"
#include "kernels/cuda/sm80_gemm_multiply.cuh"

// How the sums of a tile meet: those of a CTA's k groups in shared memory, those of CTAs that share
// it in global memory.
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

// Of the i-th pair of a thread's sums with fragment j of its tokens.
template <typename Traits>
__device__ __forceinline__ int PairIdx(int i, int j) {
  return ((i / 2 * Traits::kTokenFrags + j) * 2 + i % 2) * Traits::kGroupThreads;
}

// Whether a thread's lower sums of fragment j, with what unsigned weights add, stay within 31 bits
// in every piece and in the tile: only then is what they borrow known. Of a token of massive
// activations they need not, and all additions are modulo 2^32.
template <typename Traits>
__device__ __forceinline__ bool FitsPairs(const GemmParams& params, const SmemLayout<Traits>& smem,
                                          const Worker<Traits>& me, int j) {
  const int token = me.token_warp * Traits::kWarpTokens + 8 * j + me.lane_idx % 4 * 2;
  return smem.exponents[me.k_group][token] <= params.pair_exponent_max;
}

template <typename Traits>
__device__ __forceinline__ void AddPairs(const GemmParams& params, const SmemLayout<Traits>& smem,
                                         const Worker<Traits>& me, unsigned long long* pairs,
                                         const Sums<Traits>& acc) {
#pragma unroll
  for (int j = 0; j < Traits::kTokenFrags; ++j) {
    const bool fits = FitsPairs(params, smem, me, j);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int(&sum)[4] = acc[i / 2][j];
      const int low = sum[i % 2 * 2];
      const int high = sum[i % 2 * 2 + 1];
      unsigned long long* const pair = pairs + PairIdx<Traits>(i, j);
      if (fits) {
        atomicAdd(pair, PairOf(low, high));
      } else {
        atomicAdd(reinterpret_cast<int*>(pair), low);
        atomicAdd(reinterpret_cast<int*>(pair) + 1, high);
      }
    }
  }
}

// Takes a tile's sums and leaves zeros.
template <typename Traits>
__device__ __forceinline__ void TakePairs(const GemmParams& params, const SmemLayout<Traits>& smem,
                                          const Worker<Traits>& me, Sums<Traits>& acc,
                                          unsigned long long* pairs) {
#pragma unroll
  for (int i = 0; i < 2 * Traits::kFrags; ++i) {
    int(&sum)[4] = acc[i / 2 / Traits::kTokenFrags][i / 2 % Traits::kTokenFrags];
    const unsigned long long pair = __ldcg(pairs + i * Traits::kGroupThreads);
    sum[i % 2 * 2] = static_cast<int>(pair);
    sum[i % 2 * 2 + 1] = static_cast<int>(pair >> 32);
  }
#pragma unroll
  for (int i = 0; i < 2 * Traits::kFrags; ++i) __stcg(pairs + i * Traits::kGroupThreads, 0ull);
#pragma unroll
  for (int j = 0; j < Traits::kTokenFrags; ++j) {
    if (!FitsPairs(params, smem, me, j)) continue;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      int(&sum)[4] = acc[i / 2][j];
      sum[i % 2 * 2 + 1] -= sum[i % 2 * 2] >> 31;
    }
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
    AddPairs(params, smem, me, pairs, acc);
    if (!finish()) return false;
    TakePairs(params, smem, me, acc, pairs);
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

}  // namespace comet::sm80
