#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/attention_params.cuh"
#include "kernels/cuda/device/ptx_barrier.cuh"
#include "kernels/cuda/kv_page_layout.cuh"
#include "kernels/cuda/ring_cursor.cuh"

// What the roles of sm90_attention.cu share: the shape, shared memory, the order of work.
namespace comet::sm90 {

constexpr int kAttentionConsumers = 2;  // Warpgroups, 64 rows each.
constexpr int kGroupThreads = 128;      // Of a warpgroup.
constexpr int kGroupWarps = 4;
constexpr int kLanes = 32;
constexpr int kAttentionThreads = (1 + kAttentionConsumers) * kGroupThreads;
constexpr int kGroupRows = 64;
constexpr int kTileRows = kAttentionConsumers * kGroupRows;
constexpr int kTilePages = 2;
constexpr int kTileKeys = kTilePages * kPageTokens;
constexpr int kTileStages = 2;
constexpr int kItemStages = 8;
constexpr int kSlabHalves = 64;  // Of a row of shared memory: 128 bytes, the swizzle's width.

// Registers of a thread after the exchange; together what 168 for everyone were.
constexpr int kProducerRegisters = 88;
constexpr int kConsumerRegisters = 208;

// Named barriers; 0 is __syncthreads().
constexpr int kProducerBarrier = 1;
constexpr int kFirstConsumerBarrier = 2;  // Of each group,
constexpr int kFirstTurnBarrier = 4;      // and of both.

template <int kHeadDimT, int kKeyBitsT, int kValueBitsT>
struct PrefillShape {
  static constexpr int kHeadDim = kHeadDimT;
  static constexpr int kKeyBits = kKeyBitsT;
  static constexpr int kValueBits = kValueBitsT;
  static constexpr int kSlabs = kHeadDim / kSlabHalves;
  static constexpr int kAccumulators = kHeadDim / 2;  // Of a thread, of 64 rows of the output.
  static constexpr cuda::KvPageLayout kLayout{kHeadDim, kKeyBits, kValueBits};
  static constexpr int kHeadBytes = kLayout.head_bytes();
  // Of a KV tile's pages: keys are expanded a tile ahead of values, so two are read at a time, and
  // one arrives where there is room.
  static constexpr int kPageStages = kLayout.k_bits == 4 || kHeadDim == 64 ? 3 : 2;
};

// Rows are 128 bytes, their 16-byte chunks swizzled: chunk c of row r lies at c ^ r % 8.
//   q  [slab of 64 channels][query row]
//   k  [slab of 64 channels][key], key 64 page + PlaceOf(token)
//   v  [page][channel], 64 tokens in the order of PlaceOf()
template <typename Shape>
struct alignas(1024) PrefillSmem {
  __half q[kAttentionConsumers][Shape::kSlabs][kGroupRows][kSlabHalves];
  __half k[kTileStages][Shape::kSlabs][kTileKeys][kSlabHalves];
  __half v[kTileStages][kTilePages][Shape::kHeadDim][kSlabHalves];
  alignas(16)
      uint8_t pages[Shape::kPageStages][kTilePages][Shape::kHeadBytes];  // As the cache has them.
  uint64_t pages_full[Shape::kPageStages];
  uint64_t k_full[kTileStages];
  uint64_t k_empty[kTileStages];
  uint64_t v_full[kTileStages];
  uint64_t v_empty[kTileStages];
  cuda::QueryTile items[kItemStages];
  uint64_t items_full[kItemStages];
  uint64_t items_empty[kItemStages];
};

// Where a page's token goes among 64: the order in which a lane finds its tokens in the page's
// values, so that it stores 16 bytes at once. Keys take the same order, as the weights of a tile
// leave the first product in the order of its keys.
//   token = 16 i + 8 half + 2 t + odd     place = 16 t + 4 i + 2 half + odd
__device__ __forceinline__ constexpr int PlaceOf(int token_idx) {
  return token_idx % 8 / 2 * 16 + token_idx / 16 * 4 + token_idx % 16 / 8 * 2 + token_idx % 2;
}

// Byte of 16-byte chunk `chunk` of row `row` in a swizzled slab.
__device__ __forceinline__ int SwizzledByte(int row, int chunk) {
  return row * 128 + ((chunk ^ (row % 8)) << 4);
}

using TileCursor = cuda::RingCursor<kTileStages>;
template <typename Shape>
using PageCursor = cuda::RingCursor<Shape::kPageStages>;

// A warp's way through the items that warp 0 hands out: tiles of queries and KV heads.
template <typename Shape>
class ItemReader {
 public:
  __device__ __forceinline__ explicit ItemReader(PrefillSmem<Shape>& smem) : smem_(smem) {}

  // Its sequence is -1 where none is left.
  __device__ __forceinline__ cuda::QueryTile Next() {
    ptx::Wait(&smem_.items_full[cursor_.stage_idx], cursor_.phase);
    const cuda::QueryTile item = smem_.items[cursor_.stage_idx];
    __syncwarp();
    if (threadIdx.x % kLanes == 0) ptx::Arrive(&smem_.items_empty[cursor_.stage_idx]);
    cursor_.Advance();
    return item;
  }

 private:
  PrefillSmem<Shape>& smem_;
  cuda::RingCursor<kItemStages> cursor_;
};

__device__ __forceinline__ int FirstKvTile(const cuda::QueryTile& item) {
  return item.first_position / kTileKeys;
}
__device__ __forceinline__ int EndKvTile(const cuda::QueryTile& item) {
  return (item.num_positions + kTileKeys - 1) / kTileKeys;
}

}  // namespace comet::sm90
