#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/ops/kv_cache_view.h"

namespace comet::cuda {

// One KV head's share of a page, in the order in which tensor cores read it:
//
//   K codes | V codes | K (s, m) | V (s, m)
//   64 D bk / 8   64 D bv / 8   64 x 4 B   64 x 4 B         D = head_dim, bk and bv = 4 or 8 bits
//
// Codes are `mma.m16n8k16` A fragments, 16 rows by 16 columns, 8 codes of each lane together (a
// word at 4 bits, two at 8), four fragments of a lane together, so that a lane reads 16 bytes at
// once. Lane = 4 g + t; it holds rows g and g + 8, columns 2t, 2t + 1, 2t + 8 and 2t + 9.
//
//   K  rows are 16 tokens, columns 16 channels. Which channels is free, as q follows: lane t owns
//      the D / 4 channels from D / 4 * t, k-step i takes its channels 4i ... 4i + 3.
//      Fragments [token tile 4][k-steps / 4][lane 32][k-step 4].
//   V  rows are 16 channels, columns 16 tokens. Warp w of four owns channels D / 4 * w and up; its
//      D / 64 tiles interleave so that a thread ends with neighbouring output channels.
//      Fragments [warp 4][tile D / 64][lane 32][k-step 4].
//
// At 4 bits `word & 0x000f000f` and `word & 0x00f000f0` are two fp16 pairs of a fragment as
// subnormals (q * 2^-24, q * 2^-20), `word >> 8` gives the other two. At 8 bits `word & 0x00ff00ff`
// is q * 2^-24. A byte never holds two tokens, so appending a token writes bytes only.
//
// (s, m) of the tokens g, g + 8, g + 16 ... of one lane row are neighbours: 32 bytes.
struct KvPageLayout {
  int head_dim = 0;
  int k_bits = 0;
  int v_bits = 0;

  __host__ __device__ constexpr int k_code_bytes() const {
    return kPageTokens * head_dim * k_bits / 8;
  }
  __host__ __device__ constexpr int v_code_bytes() const {
    return kPageTokens * head_dim * v_bits / 8;
  }
  __host__ __device__ constexpr int v_code_offset() const { return k_code_bytes(); }
  __host__ __device__ constexpr int k_scale_offset() const {
    return v_code_offset() + v_code_bytes();
  }
  __host__ __device__ constexpr int v_scale_offset() const {
    return k_scale_offset() + kPageTokens * kScaleBytes;
  }
  __host__ __device__ constexpr int head_bytes() const {
    return v_scale_offset() + kPageTokens * kScaleBytes;
  }

  static constexpr int kScaleBytes = 4;  // fp16 s and m.
};

// Where one code is: its byte from the start of the side's codes, and the shift inside the byte.
struct CodePlace {
  int byte = 0;
  int shift = 0;
};

// Code `slot` (0 ... 3) of a fragment's row half: the fragment's lo pair is slots 0 and 1, its hi
// pair slots 2 and 3.
__host__ __device__ constexpr CodePlace KeyCodePlace(const KvPageLayout& layout, int token_idx,
                                                     int channel) {
  const int lane_channels = layout.head_dim / 4;
  const int token_tile = token_idx / 16;
  const int row_half = token_idx % 16 / 8;
  const int lane = token_idx % 8 * 4 + channel / lane_channels;
  const int k_step = channel % lane_channels / 4;
  const int slot = channel % 4;
  const int fragment =
      ((token_tile * (layout.head_dim / 64) + k_step / 4) * 32 + lane) * 4 + k_step % 4;
  if (layout.k_bits == 4) return {fragment * 4 + slot % 2 * 2 + row_half, slot / 2 * 4};
  return {fragment * 8 + slot / 2 * 4 + slot % 2 * 2 + row_half, 0};
}

__host__ __device__ constexpr CodePlace ValueCodePlace(const KvPageLayout& layout, int token_idx,
                                                       int channel) {
  const int num_tiles = layout.head_dim / 64;  // Of one warp.
  const int warp = channel / (16 * num_tiles);
  const int in_warp = channel % (16 * num_tiles);
  const int g = in_warp / (2 * num_tiles);
  const int tile = in_warp % (2 * num_tiles) / 2;
  const int row_half = in_warp % 2;
  const int k_step = token_idx / 16;
  const int column_half = token_idx % 16 / 8;
  const int lane = g * 4 + token_idx % 8 / 2;
  const int odd = token_idx % 2;
  const int fragment = ((warp * num_tiles + tile) * 32 + lane) * 4 + k_step;
  if (layout.v_bits == 4) return {fragment * 4 + odd * 2 + column_half, row_half * 4};
  return {fragment * 8 + column_half * 4 + odd * 2 + row_half, 0};
}

// Byte of a token's (s, m) from the start of the side's.
__host__ __device__ constexpr int ScalePlace(int token_idx) {
  return (token_idx % 8 * 8 + token_idx / 16 * 2 + token_idx % 16 / 8) * KvPageLayout::kScaleBytes;
}

}  // namespace comet::cuda
