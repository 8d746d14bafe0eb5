#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_bits.cuh"
#include "kernels/cuda/device/ptx_mma_s4.cuh"
#include "kernels/cuda/device/ptx_mma_s8.cuh"
#include "kernels/cuda/device/ptx_shared_load.cuh"
#include "kernels/cuda/sm80_gemm_pipeline.cuh"

// One warp's products of one stage: 64 outputs x kWarpTokens tokens. They go in steps of four mma
// tiles, each of 16 outputs x 8 tokens; an operand's registers are filled with the next stage's as
// soon as its last step has been issued, so that no stage begins with a wait.
namespace comet::sm80 {

// acc[tile][frag][2 h + c]: output 8 (lane / 4) + 2 tile + h, token 8 frag + 2 (lane % 4) + c.
template <typename Traits>
using Sums = int[4][Traits::kTokenFrags][4];

constexpr int kTiles = 4;     // Of a warp's 64 outputs.
constexpr int kStepMmas = 4;  // Enough to cover the latency of one by the others.

// gamma of this thread's outputs, in their order.
struct Gammas {
  __device__ __forceinline__ int operator[](int i) const {
    return ptx::SignedByte(i < 4 ? words.x : words.y, i % 4);
  }

  uint2 words;
};

// Where a warp reads a stage, by shared addresses.
template <typename Traits>
class StageReader {
 public:
  __device__ __forceinline__ StageReader(uint32_t stage, const Worker<Traits>& me)
      : codes_(stage + me.row_warp * kRowChunkBytes +
               (Traits::kHasFragments ? me.lane_idx * kChunkBytes
                                      : me.lane_idx / 4 * 64 + me.lane_idx % 4 * 8)),
        gammas_(stage + static_cast<uint32_t>(offsetof(Stage<Traits>, gammas)) +
                me.row_warp * kUnitOutputs + me.lane_idx / 4 * 8),
        // Row lane / 4, chunk lane % 4.
        tokens_(stage + static_cast<uint32_t>(offsetof(Stage<Traits>, tokens)) +
                me.token_warp * Traits::kWarpTokens * kRowBytes + me.lane_idx * kChunkBytes) {}

  // A weight fragment as it lies: see sm80_w4ax_layout.h.
  __device__ __forceinline__ uint4 Weights(int half, int tile) const {
    if constexpr (Traits::kHasFragments) {
      const int offset = (half * kTiles + tile) * kFragmentBytes;
      return ptx::LoadShared16(codes_ + offset / kRowChunkBytes * kChunkStride +
                               offset % kRowChunkBytes);
    } else {
      // What rows of codes, side by side, would cost; a measurement, not a product.
      const auto word = [&](int row, int column) {
        const int offset = (16 * tile + row) * 64 + half * 32 + column;
        return ptx::LoadShared4(codes_ + offset / kRowChunkBytes * kChunkStride +
                                offset % kRowChunkBytes);
      };
      return {word(0, 0), word(8, 0), word(0, 4), word(8, 4)};
    }
  }
  __device__ __forceinline__ uint4 Tokens(int frag) const {
    return ptx::LoadShared16(tokens_ + frag * 8 * kRowBytes);
  }
  __device__ __forceinline__ Gammas ReadGammas() const { return {ptx::LoadShared8(gammas_)}; }

  // To another stage, that many bytes on.
  __device__ __forceinline__ void Move(int distance) {
    codes_ += distance;
    gammas_ += distance;
    tokens_ += distance;
  }

 private:
  // See Stage::codes.
  static constexpr int kRowChunkBytes = Traits::kGroupThreads / Traits::kRowWarps * kChunkBytes;
  static constexpr int kChunkStride = Traits::kGroupThreads * kChunkBytes;

  uint32_t codes_;
  uint32_t gammas_;
  uint32_t tokens_;
};

// A stage's operands in registers, as far as they have been read ahead.
template <typename Traits, bool kIsInt4>
struct Operands {
  static constexpr int kFrags = Traits::kTokenFrags;
  static constexpr int kSteps = kTiles * kFrags / kStepMmas;
  // Tiles whose weights are held: those of a step, and one more.
  static constexpr int kHeld = kFrags < kStepMmas ? kTiles : 2;

  __device__ __forceinline__ explicit Operands(const StageReader<Traits>& stage) {
    gammas = stage.ReadGammas();
#pragma unroll
    for (int tile = 0; tile < kHeld; ++tile) ReadWeights(stage, tile);
#pragma unroll
    for (int frag = 0; frag < kFrags; ++frag) tokens[frag] = stage.Tokens(frag);
  }

  __device__ __forceinline__ void ReadWeights(const StageReader<Traits>& stage, int tile) {
    weights[tile % kHeld][0] = stage.Weights(0, tile);
    if constexpr (kIsInt4) weights[tile % kHeld][1] = stage.Weights(1, tile);
  }

  static constexpr int TileOf(int step, int i) { return (step * kStepMmas + i) / kFrags; }
  static constexpr int FragOf(int step, int i) { return (step * kStepMmas + i) % kFrags; }
  // Whether that mma is the last that reads the weights of its tile.
  static constexpr bool EndsTile(int step, int i) { return FragOf(step, i) == kFrags - 1; }
  // The first step whose end frees registers that hold the next stage's operands.
  static constexpr int kLeavingStep = ((kTiles - kHeld + 1) * kFrags - 1) / kStepMmas;

  // After a step's mmas: reads what comes in place of the operands it was the last to use, goes to
  // the next stage when the first of these is one of its, and then starts to load a later one.
  template <typename Ring>
  __device__ __forceinline__ void RefillAfter(int step, const StageReader<Traits>& stage,
                                              Ring& ring) {
    if (step == kLeavingStep) {
      ring.Advance();
      gammas = ring.Reader().ReadGammas();
    }
    const StageReader<Traits> next_stage = ring.Reader();
#pragma unroll
    for (int i = 0; i < kStepMmas; ++i) {
      const int tile = TileOf(step, i);
      if (EndsTile(step, i)) {
        const int next = tile + kHeld;
        if (next < kTiles) {
          ReadWeights(stage, next);
        } else {
          ReadWeights(next_stage, next - kTiles);
        }
      }
      if (tile == kTiles - 1) {
        tokens[FragOf(step, i)] = next_stage.Tokens(FragOf(step, i));
      }
    }
    if (step == kLeavingStep) ring.StartLoad();
  }

  uint4 weights[kHeld][kIsInt4 ? 2 : 1];  // [tile % kHeld][half]
  uint4 tokens[kFrags];
  Gammas gammas;
};

// One block of INT4 codes: acc += gamma * (v * code), the product in brackets by tensor cores, from
// zero on. A step's products are added during the next one, when they are there.
template <typename Traits, typename Ring>
__device__ __forceinline__ void MultiplyInt4(Sums<Traits>& acc, Operands<Traits, true>& operands,
                                             Ring& ring) {
  using Plan = Operands<Traits, true>;
  constexpr int kZeros[4] = {0, 0, 0, 0};
  const auto multiply = [](int(&sum)[4], const uint4& a, uint32_t low, uint32_t high,
                           const int(&addend)[4]) {
    if constexpr (Traits::kInt4Multiply == Int4Multiply::kS4) {
      ptx::MultiplyS4(sum, a, low, high, addend);
    } else {
      ptx::Multiply8<false>(sum, a, low, high, addend);
    }
  };
  int product[2][kStepMmas][4];
  const Gammas gammas = operands.gammas;
  // Half of a product, so that a step's sixteen multiply-adds lie between its eight mmas.
  const auto add = [&](int step, int i, int h) {
    const int tile = Plan::TileOf(step, i);
    int(&sum)[4] = acc[tile][Plan::FragOf(step, i)];
#pragma unroll
    for (int c = 2 * h; c < 2 * h + 2; ++c) {
      sum[c] += gammas[2 * tile + h] * product[step % 2][i][c];
    }
  };
  const StageReader<Traits> stage = ring.Reader();
#pragma unroll
  for (int step = 0; step < Plan::kSteps; ++step) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < kStepMmas; ++i) {
        const uint4& a = operands.weights[Plan::TileOf(step, i) % Plan::kHeld][half];
        const uint4& b = operands.tokens[Plan::FragOf(step, i)];
        int(&sum)[4] = product[step % 2][i];
        if (half == 0) {
          multiply(sum, a, b.x, b.y, kZeros);
        } else {
          multiply(sum, a, b.z, b.w, sum);
        }
        if (step > 0) add(step - 1, i, half);
      }
    }
    operands.RefillAfter(step, stage, ring);
  }
#pragma unroll
  for (int i = 0; i < 2 * kStepMmas; ++i) add(Plan::kSteps - 1, i / 2, i % 2);
  ring.FinishLoad();
}

// Four weights from four codes u = v + 8, one a byte: gamma * u + (128 - 8 gamma) = gamma * v + 128
// is within a byte for every gamma and v, so one multiplication serves four of them.
__device__ __forceinline__ uint32_t OffsetOf(int gamma) {
  return 0x80808080u - static_cast<uint32_t>(gamma) * 0x08080808u;
}
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

// Four codes in the low nibbles of bytes, times gamma.
template <typename Traits>
__device__ __forceinline__ uint32_t ConvertCodes(uint32_t codes, int gamma, uint32_t offset,
                                                 uint32_t sign_bits) {
  return Traits::kConversion == Conversion::kInFragment
             ? BiasedWeights(codes, sign_bits, gamma, offset)
             : WeightsOneByOne(codes, gamma);
}

// The two mma operands of half a tile's weights, 32 channels each.
struct Int8Weights {
  uint4 low;
  uint4 high;
};

template <typename Traits>
__device__ __forceinline__ Int8Weights Convert(const uint4& packed, int gamma_x, int gamma_y,
                                               uint32_t sign_bits) {
  if constexpr (Traits::kConversion == Conversion::kOnSums) {
    // Codes in the high nibbles of bytes are 16 v; gamma then multiplies the sums.
    const auto operand = [](uint32_t x, uint32_t y) {
      return uint4{x << 4 & 0xf0f0f0f0u, y << 4 & 0xf0f0f0f0u, x & 0xf0f0f0f0u, y & 0xf0f0f0f0u};
    };
    return {operand(packed.x, packed.y), operand(packed.z, packed.w)};
  } else {
    const uint32_t offset_x = OffsetOf(gamma_x);
    const uint32_t offset_y = OffsetOf(gamma_y);
    const auto weights = [&](uint32_t word, int gamma, uint32_t offset) {
      return ConvertCodes<Traits>(word, gamma, offset, sign_bits);
    };
    const auto operand = [&](uint32_t x, uint32_t y) {
      return uint4{weights(x, gamma_x, offset_x), weights(y, gamma_y, offset_y),
                   weights(x >> 4, gamma_x, offset_x), weights(y >> 4, gamma_y, offset_y)};
    };
    return {operand(packed.x, packed.y), operand(packed.z, packed.w)};
  }
}

// Half a block of INT8 codes.
template <typename Traits, typename Ring>
__device__ __forceinline__ void MultiplyInt8(Sums<Traits>& acc, Operands<Traits, false>& operands,
                                             Ring& ring, uint32_t sign_bits) {
  using Plan = Operands<Traits, false>;
  constexpr bool kIsOnSums = Traits::kConversion == Conversion::kOnSums;
  constexpr bool kIsBiased = Traits::kConversion == Conversion::kInFragment;
  const Gammas gammas = operands.gammas;
  const StageReader<Traits> stage = ring.Reader();
  Int8Weights converted[Plan::kHeld];
#pragma unroll
  for (int step = 0; step < Plan::kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < kStepMmas; ++i) {
      if (Plan::FragOf(step, i) != 0) continue;
      const int tile = Plan::TileOf(step, i);
      converted[tile % Plan::kHeld] =
          Convert<Traits>(operands.weights[tile % Plan::kHeld][0], gammas[2 * tile],
                          gammas[2 * tile + 1], sign_bits);
    }
    int product[kStepMmas][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < kStepMmas; ++i) {
        const int tile = Plan::TileOf(step, i);
        const int frag = Plan::FragOf(step, i);
        const Int8Weights& weights = converted[tile % Plan::kHeld];
        const uint4& a = half == 0 ? weights.low : weights.high;
        const uint4& b = operands.tokens[frag];
        const uint32_t low = half == 0 ? b.x : b.z;
        const uint32_t high = half == 0 ? b.y : b.w;
        if constexpr (kIsOnSums) {
          constexpr int kZeros[4] = {0, 0, 0, 0};
          if (half == 0) {
            ptx::Multiply8<false>(product[i], a, low, high, kZeros);
          } else {
            ptx::Multiply8<false>(product[i], a, low, high, product[i]);
          }
        } else {
          ptx::Multiply8<kIsBiased>(acc[tile][frag], a, low, high, acc[tile][frag]);
        }
      }
    }
    if constexpr (kIsOnSums) {
#pragma unroll
      for (int i = 0; i < 4 * kStepMmas; ++i) {
        const int tile = Plan::TileOf(step, i / 4);
        acc[tile][Plan::FragOf(step, i / 4)][i % 4] +=
            gammas[2 * tile + i % 4 / 2] * (product[i / 4][i % 4] >> 4);
      }
    }
    operands.RefillAfter(step, stage, ring);
  }
  ring.FinishLoad();
}

}  // namespace comet::sm80
