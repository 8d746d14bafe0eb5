#pragma once

#include "kernels/cuda/device/ptx_bits.cuh"
#include "kernels/cuda/device/ptx_bulk_copy.cuh"
#include "kernels/cuda/sm90_attention_pipeline.cuh"

// The producer warpgroup: pages by bulk copies, one tile ahead, and from them keys and values in
// fp16: k = s q + m in one rounding, as an fp16 cache would hold it.
namespace comet::sm90 {

// Two codes of a word as the fp16 numbers they are: bits in the mantissa of 1024, less 1024.
template <uint32_t kMask>
__device__ __forceinline__ __half2 CodesOf(uint32_t word) {
  const uint32_t biased = ptx::SelectAndSet<kMask, 0x64006400u>(word);
  return __hsub2(reinterpret_cast<const __half2&>(biased), __float2half2_rn(1024.0f));
}
template <uint32_t kMask>
__device__ __forceinline__ __half2 HighCodesOf(uint32_t word) {  // Bits are 16 times the code.
  const uint32_t biased = ptx::SelectAndSet<kMask, 0x64006400u>(word);
  return __hfma2(reinterpret_cast<const __half2&>(biased), __float2half2_rn(0.0625f),
                 __float2half2_rn(-64.0f));
}

__device__ __forceinline__ uint32_t Bits(__half2 x) { return reinterpret_cast<uint32_t&>(x); }
__device__ __forceinline__ __half2 Halves(uint32_t x) { return reinterpret_cast<__half2&>(x); }

// What a lane reads at once of a page's codes: four fragments, see kv_page_layout.cuh.
template <int kBits>
struct Fragments {
  uint4 words[kBits / 4];

  __device__ __forceinline__ void Load(const uint8_t* codes) {
    const uint4* source = reinterpret_cast<const uint4*>(codes);
#pragma unroll
    for (int i = 0; i < kBits / 4; ++i) words[i] = source[i];
  }
  __device__ __forceinline__ uint32_t word(int i) const {
    const uint4& four = words[i / 4];
    return i % 4 == 0 ? four.x : i % 4 == 1 ? four.y : i % 4 == 2 ? four.z : four.w;
  }

  // Of fragment i: codes[row half][column pair].
  __device__ __forceinline__ void Expand(int i, __half2 (&codes)[2][2]) const {
    if constexpr (kBits == 4) {
      const uint32_t low = word(i);
      const uint32_t high = low >> 8;
      codes[0][0] = CodesOf<0x000f000fu>(low);
      codes[0][1] = HighCodesOf<0x00f000f0u>(low);
      codes[1][0] = CodesOf<0x000f000fu>(high);
      codes[1][1] = HighCodesOf<0x00f000f0u>(high);
    } else {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const uint32_t low = word(2 * i + pair);
        codes[0][pair] = CodesOf<0x00ff00ffu>(low);
        codes[1][pair] = CodesOf<0x00ff00ffu>(low >> 8);
      }
    }
  }
};

// Eight words of one row: 32 bytes, whose 16-byte halves the swizzle may put in either order.
__device__ __forceinline__ void StoreRow(uint8_t* stage, int first_byte, int second_byte,
                                         const uint32_t (&halves)[8]) {
  *reinterpret_cast<uint4*>(stage + first_byte) =
      make_uint4(halves[0], halves[1], halves[2], halves[3]);
  *reinterpret_cast<uint4*>(stage + second_byte) =
      make_uint4(halves[4], halves[5], halves[6], halves[7]);
}

// Expands keys: of each page of a tile warp w's 16 tokens from 16 w. Of a lane's 16-byte chunks
// only bits 4 and 5 of the address differ, which are flipped, so that all else is a constant of
// the instruction.
template <typename Shape>
class KeyExpander {
 public:
  __device__ __forceinline__ KeyExpander(int warp_idx, int lane_idx) {
    const int g = lane_idx / 4;
    const int t = lane_idx % 4;
    // Lanes of the second slab begin with the other quarter: their banks would be the same.
    const int swap = kQuarters == 1 ? 0 : t / 2;
    const int channel = t * (Shape::kHeadDim / 4) + swap * 16;
    first_byte_ = channel / kSlabHalves * (kTileKeys * 128) +
                  SwizzledByte(PlaceOf(warp_idx * 16 + g), channel % kSlabHalves / 8);
    code_byte_ = ((warp_idx * kQuarters + swap) * kLanes + lane_idx) * kLoadBytes;
    scale_byte_ = g * 32 + warp_idx * 8;
  }

  // A value that is not finite makes its token's key NaN, as its own row is stored as zeros: NaN
  // then reaches the queries that see the token only.
  __device__ __forceinline__ void Expand(const uint8_t (&pages)[kTilePages][Shape::kHeadBytes],
                                         uint8_t* k) const {
    Fragments<Shape::kKeyBits> next;
    next.Load(pages[0] + code_byte_);
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      const uint8_t* scales = pages[page] + scale_byte_;
      const uint2 key_scales =
          *reinterpret_cast<const uint2*>(scales + Shape::kLayout.k_scale_offset());
      const uint2 value_scales =
          *reinterpret_cast<const uint2*>(scales + Shape::kLayout.v_scale_offset());
      const __half2 zero = __float2half2_rn(0.0f);
      const __half2 pairs[2] = {__hfma2(Halves(value_scales.x), zero, Halves(key_scales.x)),
                                __hfma2(Halves(value_scales.y), zero, Halves(key_scales.y))};
#pragma unroll
      for (int quarter = 0; quarter < kQuarters; ++quarter) {
        const Fragments<Shape::kKeyBits> keys = next;
        if (quarter + 1 < kQuarters) {
          next.Load(pages[page] + (code_byte_ ^ (kLanes * kLoadBytes)));
        } else if (page + 1 < kTilePages) {
          next.Load(pages[page + 1] + code_byte_);
        }
        uint32_t halves[2][8];
#pragma unroll
        for (int step = 0; step < 4; ++step) {
          __half2 codes[2][2];
          keys.Expand(step, codes);
#pragma unroll
          for (int row_half = 0; row_half < 2; ++row_half) {
            const __half2 scale = __low2half2(pairs[row_half]);
            const __half2 minimum = __high2half2(pairs[row_half]);
            halves[row_half][2 * step] = Bits(__hfma2(codes[row_half][0], scale, minimum));
            halves[row_half][2 * step + 1] = Bits(__hfma2(codes[row_half][1], scale, minimum));
          }
        }
        const int byte = first_byte_ ^ (quarter * 32);
        uint8_t* rows = k + page * (kPageTokens * 128);
        StoreRow(rows, byte, byte ^ 16, halves[0]);
        StoreRow(rows + 256, byte ^ 32, byte ^ 48, halves[1]);  // Two rows further.
      }
    }
  }

 private:
  static constexpr int kQuarters = Shape::kHeadDim / 64;  // Loads of 16 channels a lane and row.
  static constexpr int kLoadBytes = Shape::kKeyBits * 4;
  int first_byte_;
  int code_byte_;
  int scale_byte_;
};

// (s, m) of a lane's tokens of a page: word 2 i + half holds tokens 16 i + 8 half + 2 t and the
// next.
struct ValueScales {
  __half2 scale[8];
  __half2 minimum[8];

  // Zeros for the tokens before `first` and from `end` on, which nobody sees and which may hold
  // anything, and for those that are not finite.
  __device__ __forceinline__ void Load(const uint8_t* scales, int first, int end, int t) {
    uint32_t words[2][8];  // [odd]
    __half2 poison = __float2half2_rn(0.0f);
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const uint4* row = reinterpret_cast<const uint4*>(scales + (2 * t + odd) * 32);
      const uint4 first = row[0];
      const uint4 second = row[1];
      const uint32_t loaded[8] = {first.x,  first.y,  first.z,  first.w,
                                  second.x, second.y, second.z, second.w};
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        words[odd][k] = loaded[k];
        poison = __hfma2(Halves(loaded[k]), __float2half2_rn(0.0f), poison);
      }
    }
    if (first > 0 || end < kPageTokens || !__hbeq2(poison, poison)) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          const __half2 zeros = __hmul2(Halves(words[odd][k]), __float2half2_rn(0.0f));
          const int token_idx = k * 8 + 2 * t + odd;
          const bool is_seen = token_idx >= first && token_idx < end;
          if (!is_seen || !__hbeq2(zeros, zeros)) words[odd][k] = 0;
        }
      }
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      scale[k] = Halves(ptx::SelectAndSet<0xffffu>(words[0][k], words[1][k] << 16));
      minimum[k] = Halves(ptx::SelectAndSet<0xffff0000u>(words[1][k], words[0][k] >> 16));
    }
  }
};

// Expands values of one page by two warps, transposed: fragment tile i's rows g and g + 8 become
// rows 16 i + g and 16 i + 8 + g of the stage, see ChannelOf().
template <typename Shape>
__device__ __forceinline__ void ExpandValues(const uint8_t* page, const ValueScales& scales,
                                             uint8_t* v, int half_idx, int lane_idx) {
  constexpr int kLoads = Shape::kHeadDim / 16 / 2;  // Of two channels of each of 8 g.
  constexpr int kLoadBytes = Shape::kValueBits * 4;
  const int g = lane_idx / 4;
  const int t = lane_idx % 4;
  const uint8_t* codes =
      page + Shape::kLayout.v_code_offset() + (half_idx * kLoads * kLanes + lane_idx) * kLoadBytes;
  uint8_t* rows = v + half_idx * kLoads * (16 * 128);
  const int byte = SwizzledByte(g, 2 * t);
  Fragments<Shape::kValueBits> next;
  next.Load(codes);
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const Fragments<Shape::kValueBits> values = next;
    if (i + 1 < kLoads) next.Load(codes + (i + 1) * (kLanes * kLoadBytes));
    uint32_t halves[2][8];  // [channel]
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      __half2 codes[2][2];
      values.Expand(step, codes);
#pragma unroll
      for (int channel = 0; channel < 2; ++channel) {
#pragma unroll
        for (int token_half = 0; token_half < 2; ++token_half) {
          const int k = 2 * step + token_half;
          const __half2 code =
              Shape::kValueBits == 4 ? codes[token_half][channel] : codes[channel][token_half];
          halves[channel][k] = Bits(__hfma2(code, scales.scale[k], scales.minimum[k]));
        }
      }
    }
    StoreRow(rows + i * (16 * 128), byte, byte ^ 16, halves[0]);
    StoreRow(rows + i * (16 * 128) + 8 * 128, byte, byte ^ 16, halves[1]);
  }
}

// Hands out items and loads their pages, one KV tile after the other, ahead of what is expanded.
// Warp 0.
template <typename Shape>
class PageLoader {
 public:
  __device__ __forceinline__ PageLoader(const cuda::AttentionParams& params,
                                        PrefillSmem<Shape>& smem, int lane_idx)
      : params_(params),
        smem_(smem),
        tiles_(params, kTileRows),
        queue_(params.work),
        lane_idx_(lane_idx) {}

  __device__ __forceinline__ void Begin() { BeginItem(static_cast<int>(blockIdx.x)); }

  // The next KV tile's pages into the next stage, which is free.
  __device__ __forceinline__ void LoadTile() {
    if (item_.sequence_idx < 0) return;
    const bool is_page = ReadsPage();
    const int num_pages = __popc(__ballot_sync(0xffffffffu, is_page));
    uint64_t* barrier = &smem_.pages_full[place_.stage_idx];
    if (lane_idx_ == 0) ptx::ArriveAndExpect(barrier, num_pages * Shape::kHeadBytes);
    __syncwarp();
    if (is_page) {
      const uint8_t* source = params_.pages + page_id_ * params_.page_stride +
                              int64_t{item_.kv_head_idx} * Shape::kHeadBytes;
      ptx::CopyBytes(smem_.pages[place_.stage_idx][lane_idx_], source, Shape::kHeadBytes, barrier,
                     ptx::kEvictNormal);
    }
    place_.Advance();
    if (++kv_tile_ < EndKvTile(item_)) {
      FindPages();
    } else {
      BeginItem(cuda::WorkQueue::ItemOf(__shfl_sync(0xffffffffu, taken_, 0)));
    }
  }

 private:
  __device__ __forceinline__ void BeginItem(int item_idx) {
    item_ = tiles_.Find(item_idx / params_.num_kv_heads, item_idx % params_.num_kv_heads);
    ptx::Wait(&smem_.items_empty[cursor_.stage_idx], cursor_.phase ^ 1);
    if (lane_idx_ == 0) {
      smem_.items[cursor_.stage_idx] = item_;
      ptx::Arrive(&smem_.items_full[cursor_.stage_idx]);
      if (item_.sequence_idx >= 0) {
        taken_ = queue_.Take();
      } else {
        queue_.Finish();
      }
    }
    cursor_.Advance();
    kv_tile_ = FirstKvTile(item_);
    if (item_.sequence_idx >= 0) FindPages();
  }

  // Lane i speaks of the tile's page i.
  __device__ __forceinline__ int page_idx() const { return kv_tile_ * kTilePages + lane_idx_; }
  __device__ __forceinline__ bool ReadsPage() const {
    return lane_idx_ < kTilePages && item_.ReadsPage(page_idx());
  }

  // Ahead of their use, as the table is far away.
  __device__ __forceinline__ void FindPages() {
    if (ReadsPage()) page_id_ = params_.batch.PageId(item_.sequence_idx, page_idx());
  }

  const cuda::AttentionParams& params_;
  PrefillSmem<Shape>& smem_;
  cuda::ChunkTiles tiles_;
  cuda::WorkQueue queue_;
  cuda::RingCursor<kItemStages> cursor_;
  cuda::QueryTile item_;
  const int lane_idx_;
  unsigned taken_ = 0;  // Of lane 0.
  PageCursor<Shape> place_;
  int kv_tile_ = 0;
  int page_id_ = 0;
};

// A KV tile whose keys are expanded and whose values are not.
struct ValueTile {
  int page_stage = 0;
  int kv_tile = -1;  // -1: none yet.
  int first_position = 0;
  int num_positions = 0;
};

template <typename Shape>
__device__ void ProduceTiles(const cuda::AttentionParams& params, PrefillSmem<Shape>& smem,
                             int warp_idx, int lane_idx) {
  PageLoader<Shape> loader(params, smem, lane_idx);
  const KeyExpander<Shape> keys(warp_idx, lane_idx);
  if (warp_idx == 0) {
    loader.Begin();
    for (int i = 0; i < Shape::kPageStages; ++i) loader.LoadTile();
  }
  const auto publish = [&](uint64_t* barrier) {
    ptx::FenceForAsyncReaders();
    __syncwarp();
    if (lane_idx == 0) ptx::Arrive(barrier);
  };
  ItemReader<Shape> items(smem);
  TileCursor keys_place;
  TileCursor values_place;
  PageCursor<Shape> pages_place;
  // Values follow keys by a tile: their places are still read when those of keys are free.
  ValueTile values;
  const auto expand_values = [&] {
    ptx::Wait(&smem.v_empty[values_place.stage_idx], values_place.phase ^ 1);
    const int page = warp_idx / 2;
    const int page_position = (values.kv_tile * kTilePages + page) * kPageTokens;
    const uint8_t* codes = smem.pages[values.page_stage][page];
    ValueScales scales;
    scales.Load(codes + Shape::kLayout.v_scale_offset(), values.first_position - page_position,
                values.num_positions - page_position, lane_idx % 4);
    ExpandValues<Shape>(codes, scales,
                        reinterpret_cast<uint8_t*>(smem.v[values_place.stage_idx][page]),
                        warp_idx % 2, lane_idx);
    publish(&smem.v_full[values_place.stage_idx]);
    values_place.Advance();
    ptx::SyncThreads(kProducerBarrier, kGroupThreads);  // All have read the pages.
    if (warp_idx == 0) loader.LoadTile();
  };
  for (cuda::QueryTile item = items.Next(); item.sequence_idx >= 0; item = items.Next()) {
    for (int kv_tile = FirstKvTile(item); kv_tile < EndKvTile(item); ++kv_tile) {
      ptx::Wait(&smem.pages_full[pages_place.stage_idx], pages_place.phase);
      ptx::Wait(&smem.k_empty[keys_place.stage_idx], keys_place.phase ^ 1);
      keys.Expand(smem.pages[pages_place.stage_idx],
                  reinterpret_cast<uint8_t*>(smem.k[keys_place.stage_idx]));
      publish(&smem.k_full[keys_place.stage_idx]);
      keys_place.Advance();
      if (values.kv_tile >= 0) expand_values();
      values = {pages_place.stage_idx, kv_tile, item.first_position, item.num_positions};
      pages_place.Advance();
    }
  }
  if (values.kv_tile >= 0) expand_values();
}

}  // namespace comet::sm90
