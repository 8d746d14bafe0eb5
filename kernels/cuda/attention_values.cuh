#pragma once

#include "kernels/cuda/attention_weights.cuh"
#include "kernels/cuda/device/ptx_address.cuh"

// The output of a tile: values times weights, group by group, unit by unit.
namespace comet::cuda {

// Running softmax of a thread's columns and channels.
template <typename Shape>
struct AttentionState {
  float max[Shape::kColumnTiles][2];
  float sum[Shape::kColumnTiles][2];
  float offset[Shape::kColumnTiles][2];
  float out[Shape::kWarpTiles][Shape::kColumnTiles][4];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        max[n][c] = -INFINITY;
        sum[n][c] = 0.0f;
        offset[n][c] = 0.0f;
      }
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
#pragma unroll
        for (int r = 0; r < 4; ++r) out[i][n][r] = 0.0f;
      }
    }
  }
};

// The same of values, whose rows are channels: at 4 bits the nibbles are in another order.
template <int kBits>
struct ValueFragments : KeyFragments<kBits> {
  __device__ __forceinline__ void ExpandValue(int i, uint32_t (&a)[4]) const {
    this->Expand(i, a);
    if constexpr (kBits == 4) {
      const uint32_t swapped = a[1];
      a[1] = a[2];
      a[2] = swapped;
    }
  }
};

template <int kBits>
constexpr float kUnscaleHigh = kBits == 4 ? 0x1p20f : 0x1p24f;

// Folds the group's four pages into `unit`, page by page, in this warp's channels.
template <typename Shape>
__device__ __forceinline__ void WeighValues(const GroupWeights<Shape>& group,
                                            const uint8_t (&stage)[kGroupPages][Shape::kHeadBytes],
                                            AttentionState<Shape>& unit) {
  const int warp_idx = GroupWarp();
  const int lane_idx = threadIdx.x % kWarpLanes;
  const int t = lane_idx % 4;
  float factor[kGroupPages][Shape::kColumnTiles][2];
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      PageWeights pages[kGroupPages];
      float max = unit.max[n][c];
#pragma unroll
      for (int w = 0; w < kGroupPages; ++w) {
        pages[w] = group.pages[w][n * kTileColumns + 2 * t + c];
        max = fmaxf(max, pages[w].max);
      }
      const float subtrahend = Subtrahend(max);
      const float unit_factor = ptx::Exp2Approx(unit.max[n][c] - subtrahend);
      unit.max[n][c] = max;
      unit.sum[n][c] *= unit_factor;
      unit.offset[n][c] *= unit_factor;
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
        unit.out[i][n][c] *= unit_factor;
        unit.out[i][n][c + 2] *= unit_factor;
      }
#pragma unroll
      for (int w = 0; w < kGroupPages; ++w) {
        const float page_factor = ptx::Exp2Approx(pages[w].max - subtrahend);
        unit.sum[n][c] = __fmaf_rn(pages[w].sum, page_factor, unit.sum[n][c]);
        unit.offset[n][c] = __fmaf_rn(pages[w].offset, page_factor, unit.offset[n][c]);
        factor[w][n][c] = page_factor * pages[w].unscale;
      }
    }
  }

#pragma unroll
  for (int w = 0; w < kGroupPages; ++w) {
    uint32_t b[Shape::kColumnTiles][2][4];  // Two k-steps a load.
#pragma unroll
    for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = w * kPageTokens + half * kWarpLanes + lane_idx;
        ptx::LoadMatrices4Transposed(b[n][half], ptx::SharedAddress(group.weights[n][row]));
      }
    }
    const uint8_t* codes = stage[w] + Shape::kLayout.v_code_offset();
#pragma unroll
    for (int i = 0; i < Shape::kWarpTiles; ++i) {
      ValueFragments<Shape::kValueBits> values;
      values.Load(codes, (warp_idx * Shape::kWarpTiles + i) * kWarpLanes + lane_idx);
      float acc[Shape::kColumnTiles][4] = {};
#pragma unroll
      for (int step = 0; step < kPageTiles; ++step) {
        uint32_t a[4];
        values.ExpandValue(step, a);
#pragma unroll
        for (int n = 0; n < Shape::kColumnTiles; ++n) {
          ptx::MmaF16(acc[n], a, b[n][step / 2][step % 2 * 2], b[n][step / 2][step % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          unit.out[i][n][r] = __fmaf_rn(acc[n][r], factor[w][n][r % 2], unit.out[i][n][r]);
        }
      }
    }
  }
}

// Brings what was summed up relative to two maxima, so far and in a unit, to the larger.
struct FoldFactors {
  float state;
  float unit;
  __device__ __forceinline__ void Fold(float& to, float from) const {
    to = __fmaf_rn(from, unit, to * state);
  }
};

__device__ __forceinline__ FoldFactors FoldMax(float& state_max, float unit_max) {
  const float max = fmaxf(state_max, unit_max);
  const float subtrahend = Subtrahend(max);
  const FoldFactors factors{ptx::Exp2Approx(state_max - subtrahend),
                            ptx::Exp2Approx(unit_max - subtrahend)};
  state_max = max;
  return factors;
}

// Adds a finished unit to the result so far.
template <typename Shape>
__device__ __forceinline__ void Fold(AttentionState<Shape>& state,
                                     const AttentionState<Shape>& unit) {
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const FoldFactors factors = FoldMax(state.max[n][c], unit.max[n][c]);
      factors.Fold(state.sum[n][c], unit.sum[n][c]);
      factors.Fold(state.offset[n][c], unit.offset[n][c]);
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
        factors.Fold(state.out[i][n][c], unit.out[i][n][c]);
        factors.Fold(state.out[i][n][c + 2], unit.out[i][n][c + 2]);
      }
    }
  }
}

// Two neighbouring channels of a column.
template <typename Shape>
__device__ __forceinline__ __half2 OutputOf(float low, float high, float offset, float sum) {
  low = __fmaf_rn(low, kUnscaleLow, offset);
  high = __fmaf_rn(high, kUnscaleHigh<Shape::kValueBits>, offset);
  return __floats2half2_rn(low / sum, high / sum);
}

// Where a thread's channels begin in a head: its 2 * kWarpTiles of each of its columns.
template <typename Shape>
__device__ __forceinline__ int FirstChannelOf(int warp_idx, int lane_idx) {
  return warp_idx * (Shape::kHeadDim / kWarps) + lane_idx / 4 * (2 * Shape::kWarpTiles);
}

// Divides and stores.
template <typename Shape>
__device__ void StoreOutput(const AttentionParams& params, const QueryTile& tile,
                            const AttentionState<Shape>& state) {
  const int lane_idx = threadIdx.x % kWarpLanes;
  const int first_channel = FirstChannelOf<Shape>(GroupWarp(), lane_idx);
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column_idx = n * kTileColumns + lane_idx % 4 * 2 + c;
      if (column_idx >= tile.num_columns) continue;
      const Column column = ColumnOf<Shape>(params, tile, column_idx);
      __half2 channels[Shape::kWarpTiles];
#pragma unroll
      for (int i = 0; i < Shape::kWarpTiles; ++i) {
        channels[i] = OutputOf<Shape>(state.out[i][n][c], state.out[i][n][c + 2],
                                      state.offset[n][c], state.sum[n][c]);
      }
      __half* out = params.out + column.row * params.out_row_stride +
                    column.head_idx * Shape::kHeadDim + first_channel;
      if constexpr (Shape::kWarpTiles == 2) {
        *reinterpret_cast<uint2*>(out) = reinterpret_cast<const uint2&>(channels);
      } else {
        *reinterpret_cast<__half2*>(out) = channels[0];
      }
    }
  }
}

// Where thread `thread_idx`'s part of a unit's partial result lies: its words are kThreads apart,
// first those of its two columns, then its outputs.
template <typename Shape>
__device__ __forceinline__ float* UnitOf(const AttentionParams& params, int tile_idx, int unit_idx,
                                         int thread_idx) {
  constexpr int kWords = static_cast<int>(sizeof(AttentionState<Shape>) / sizeof(float));
  const int64_t tile_unit = int64_t{tile_idx} * params.units_max + unit_idx;
  return params.units + tile_unit * (kWords * kThreads) + thread_idx;
}

constexpr int kColumnWords = 3;  // Its maximum, sum and offset.

__device__ __forceinline__ constexpr int OutWord(int warp_tile, int accumulator) {
  return 2 * kColumnWords + 4 * warp_tile + accumulator;
}

template <typename Shape>
__device__ __forceinline__ void StoreUnit(const AttentionState<Shape>& unit, float* memory) {
#pragma unroll
  for (int n = 0; n < Shape::kColumnTiles; ++n) {
    float* words = memory + n * OutWord(Shape::kWarpTiles, 0) * kThreads;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      words[(c * kColumnWords + 0) * kThreads] = unit.max[n][c];
      words[(c * kColumnWords + 1) * kThreads] = unit.sum[n][c];
      words[(c * kColumnWords + 2) * kThreads] = unit.offset[n][c];
    }
#pragma unroll
    for (int i = 0; i < Shape::kWarpTiles; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r) words[OutWord(i, r) * kThreads] = unit.out[i][n][r];
    }
  }
}

}  // namespace comet::cuda
