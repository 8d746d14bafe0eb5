#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/device/ptx_mma_s4.cuh"
#include "kernels/cuda/device/ptx_mma_s8.cuh"
#include "kernels/cuda/device/ptx_shared_load.cuh"
#include "kernels/cuda/sm80_gemm_pipeline.cuh"

// One warp's products of one stage: 64 outputs x kWarpTokens tokens.
namespace comet::sm80 {

// acc[tile][frag][2 h + c]: output 8 (lane / 4) + 2 tile + h, token 8 frag + 2 (lane % 4) + c.
template <typename Traits>
using Sums = int[4][Traits::kTokenFrags][4];

// gamma of this thread's outputs, in their order.
struct Steps {
  __device__ __forceinline__ explicit Steps(const uint8_t* unit_steps)
      : words(*reinterpret_cast<const uint2*>(unit_steps + threadIdx.x % kWarpThreads / 4 * 8)) {}

  __device__ __forceinline__ int operator[](int i) const {
    return static_cast<int8_t>((i < 4 ? words.x : words.y) >> (i % 4 * 8));
  }

  uint2 words;
};

// A weight fragment as it lies: see sm80_w4ax_layout.h.
template <typename Traits>
__device__ __forceinline__ uint4 LoadFragment(const uint8_t* unit_codes, int half, int tile,
                                              int lane_idx) {
  if constexpr (Traits::kHasFragments) {
    return ptx::LoadShared16(unit_codes + (half * 4 + tile) * kFragmentBytes +
                             lane_idx * kChunkBytes);
  } else {
    // What rows of codes, side by side, would cost; a measurement, not a product.
    const uint8_t* row =
        unit_codes + (16 * tile + lane_idx / 4) * 64 + half * 32 + lane_idx % 4 * 8;
    const auto word = [&](int offset) { return *reinterpret_cast<const uint32_t*>(row + offset); };
    return {word(0), word(8 * 64), word(4), word(8 * 64 + 4)};
  }
}

template <typename Traits>
__device__ __forceinline__ void LoadTokens(uint4 (&tokens)[Traits::kTokenFrags],
                                           const Stage<Traits>& stage, const Worker<Traits>& me) {
  const uint8_t* first = stage.tokens[me.token_warp * Traits::kWarpTokens] +
                         me.lane_idx * kChunkBytes;  // Row lane / 4, chunk lane % 4.
#pragma unroll
  for (int j = 0; j < Traits::kTokenFrags; ++j) {
    tokens[j] = ptx::LoadShared16(first + j * 8 * kRowBytes);
  }
}

// One block of INT4 codes: acc += gamma * (v * code), the product in brackets by tensor cores, from
// zero on.
template <typename Traits>
__device__ __forceinline__ void MultiplyInt4(Sums<Traits>& acc, const Stage<Traits>& stage,
                                             const Worker<Traits>& me) {
  constexpr int kZeros[4] = {0, 0, 0, 0};
  const auto multiply = [](int(&sum)[4], const uint4& a, uint32_t low, uint32_t high,
                           const int(&addend)[4]) {
    if constexpr (Traits::kInt4Multiply == Int4Multiply::kS4) {
      ptx::MultiplyS4(sum, a, low, high, addend);
    } else {
      ptx::Multiply8<false>(sum, a, low, high, addend);
    }
  };
  uint4 tokens[Traits::kTokenFrags];
  LoadTokens(tokens, stage, me);
  const uint8_t* codes = stage.codes[me.row_warp];
  const Steps steps(stage.steps[me.row_warp]);
  uint4 first = LoadFragment<Traits>(codes, 0, 0, me.lane_idx);
  uint4 second = LoadFragment<Traits>(codes, 1, 0, me.lane_idx);
  constexpr int kBatch = Traits::kTokenFrags < 4 ? Traits::kTokenFrags : 4;
#pragma unroll
  for (int tile = 0; tile < 4; ++tile) {
#pragma unroll
    for (int batch = 0; batch < Traits::kTokenFrags; batch += kBatch) {
      // The next tile's fragments load as soon as this one's have been used.
      const bool loads_next = tile < 3 && batch + kBatch == Traits::kTokenFrags;
      int product[kBatch][4];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        multiply(product[j], first, tokens[batch + j].x, tokens[batch + j].y, kZeros);
      }
      if (loads_next) first = LoadFragment<Traits>(codes, 0, tile + 1, me.lane_idx);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        multiply(product[j], second, tokens[batch + j].z, tokens[batch + j].w, product[j]);
      }
      if (loads_next) second = LoadFragment<Traits>(codes, 1, tile + 1, me.lane_idx);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          acc[tile][batch + j][i] += steps[2 * tile + i / 2] * product[j][i];
        }
      }
    }
  }
}

// Four weights from four codes u = v + 8, one a byte: gamma * u + (128 - 8 gamma) = gamma * v + 128
// is within a byte for every gamma and v, so one multiplication serves four of them.
__device__ __forceinline__ uint32_t BiasedWeights(uint32_t codes, uint32_t sign_bits, int step,
                                                  uint32_t offset) {
  return ((codes ^ sign_bits) & 0x0f0f0f0fu) * static_cast<uint32_t>(step) + offset;
}

// gamma * v of four codes one by one, as a compiler would have it. For measurement.
__device__ __forceinline__ uint32_t WeightsOneByOne(uint32_t codes, int step) {
  uint32_t weights = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int v = static_cast<int32_t>(codes << (28 - 8 * i)) >> 28;
    weights |= static_cast<uint32_t>(v * step & 0xff) << (8 * i);
  }
  return weights;
}

// Half a block of INT8 codes.
template <typename Traits>
__device__ __forceinline__ void MultiplyInt8(Sums<Traits>& acc, const Stage<Traits>& stage,
                                             const Worker<Traits>& me) {
  const uint32_t sign_bits = ptx::InRegister(0x08080808u);  // Flipping bit 3 of v adds 8.
  uint4 tokens[Traits::kTokenFrags];
  LoadTokens(tokens, stage, me);
  const uint8_t* codes = stage.codes[me.row_warp];
  const Steps steps(stage.steps[me.row_warp]);
#pragma unroll
  for (int tile = 0; tile < 4; ++tile) {
    const uint4 packed = LoadFragment<Traits>(codes, 0, tile, me.lane_idx);
    const int step_x = steps[2 * tile];
    const int step_y = steps[2 * tile + 1];
    if constexpr (Traits::kConversion == Conversion::kOnSums) {
      // Codes in the high nibbles of bytes are 16 v; gamma then multiplies the sums.
      const auto operand = [](uint32_t x, uint32_t y) {
        return uint4{x << 4 & 0xf0f0f0f0u, y << 4 & 0xf0f0f0f0u, x & 0xf0f0f0f0u, y & 0xf0f0f0f0u};
      };
      constexpr int kZeros[4] = {0, 0, 0, 0};
#pragma unroll
      for (int j = 0; j < Traits::kTokenFrags; ++j) {
        int product[4];
        ptx::Multiply8<false>(product, operand(packed.x, packed.y), tokens[j].x, tokens[j].y,
                              kZeros);
        ptx::Multiply8<false>(product, operand(packed.z, packed.w), tokens[j].z, tokens[j].w,
                              product);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          acc[tile][j][i] += (i < 2 ? step_x : step_y) * (product[i] >> 4);
      }
    } else {
      constexpr bool kIsBiased = Traits::kConversion == Conversion::kInFragment;
      const uint32_t offset_x = 0x80808080u - static_cast<uint32_t>(step_x) * 0x08080808u;
      const uint32_t offset_y = 0x80808080u - static_cast<uint32_t>(step_y) * 0x08080808u;
      const auto weights = [&](uint32_t word, int step, uint32_t offset) {
        return kIsBiased ? BiasedWeights(word, sign_bits, step, offset)
                         : WeightsOneByOne(word, step);
      };
      const auto operand = [&](uint32_t x, uint32_t y) {
        return uint4{weights(x, step_x, offset_x), weights(y, step_y, offset_y),
                     weights(x >> 4, step_x, offset_x), weights(y >> 4, step_y, offset_y)};
      };
      const uint4 first = operand(packed.x, packed.y);
      const uint4 second = operand(packed.z, packed.w);
#pragma unroll
      for (int j = 0; j < Traits::kTokenFrags; ++j) {
        ptx::Multiply8<kIsBiased>(acc[tile][j], first, tokens[j].x, tokens[j].y, acc[tile][j]);
      }
#pragma unroll
      for (int j = 0; j < Traits::kTokenFrags; ++j) {
        ptx::Multiply8<kIsBiased>(acc[tile][j], second, tokens[j].z, tokens[j].w, acc[tile][j]);
      }
    }
  }
}

}  // namespace comet::sm80
