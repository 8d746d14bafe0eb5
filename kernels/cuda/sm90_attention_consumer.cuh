#pragma once

#include <cmath>

#include "kernels/cuda/device/ptx_mma_f16.cuh"
#include "kernels/cuda/device/ptx_wgmma.cuh"
#include "kernels/cuda/device/ptx_wgmma_f16.cuh"
#include "kernels/cuda/sm90_attention_pipeline.cuh"

// A consumer warpgroup: 64 rows of queries against one KV tile after the other, the products of the
// next tile's keys and of this one's values under way while it weighs.
namespace comet::sm90 {

// Running softmax of a thread's two rows, in units of the scaled logits' base-2 exponent.
struct RowState {
  float max[2];
  float sum[2];  // Of this thread's keys.
};

template <typename Shape>
class PrefillConsumer {
 public:
  static constexpr int kScores = kTileKeys / 2;  // Of a thread.
  static constexpr int kKeySteps = Shape::kHeadDim / 16;
  static constexpr int kValueSteps = kTileKeys / 16;

  __device__ __forceinline__ PrefillConsumer(const cuda::AttentionParams& params,
                                             PrefillSmem<Shape>& smem, int group_idx)
      : params_(params),
        smem_(smem),
        group_idx_(group_idx),
        warp_idx_(static_cast<int>(threadIdx.x) % kGroupThreads / kLanes),
        lane_idx_(static_cast<int>(threadIdx.x) % kLanes),
        q_(ptx::TileAddress(ptx::SharedAddress(smem.q[group_idx]))),
        k_(ptx::TileAddress(ptx::SharedAddress(smem.k))),
        v_(ptx::TileAddress(ptx::SharedAddress(smem.v))) {}

  __device__ void Run() {
    WorkItems items(params_);
    while (items.Next()) {
      const cuda::QueryTile& tile = items.tile();
      if (group_idx_ * kGroupRows < tile.num_columns) {
        LoadQueries(tile);
        Attend(tile, items.first_kv_tile(), items.end_kv_tile());
      } else {
        Skip(items.end_kv_tile() - items.first_kv_tile());
      }
    }
  }

 private:
  // Calls visit(row of this warp's 16, the place of the lane's four channels in q or out or -1
  // where there is no query, their byte in `smem.q`), 8 bytes a lane, rows whole.
  template <typename Visit>
  __device__ __forceinline__ void ForEachRowPart(const cuda::QueryTile& tile, int64_t row_stride,
                                                 const Visit& visit) {
    constexpr int kRowLanes = Shape::kHeadDim / 4;
    constexpr int kRowsAtOnce = kLanes / kRowLanes;
    const int channel = lane_idx_ % kRowLanes * 4;
    const int first_row = params_.batch.query_start[tile.sequence_idx];
#pragma unroll 4
    for (int i = 0; i < 16; i += kRowsAtOnce) {
      const int row = warp_idx_ * 16 + i + lane_idx_ / kRowLanes;
      const int column_idx = group_idx_ * kGroupRows + row;
      const int column = tile.first_column + column_idx;
      const int query_idx = column / params_.group_heads;
      const int head_idx =
          tile.kv_head_idx * params_.group_heads + column - query_idx * params_.group_heads;
      const int64_t place = column_idx < tile.num_columns ? (first_row + query_idx) * row_stride +
                                                                head_idx * Shape::kHeadDim + channel
                                                          : -1;
      const int byte = channel / kSlabHalves * (kGroupRows * 128) +
                       SwizzledByte(row, channel % kSlabHalves / 8) + channel % 8 * 2;
      visit(place, byte);
    }
  }

  __device__ __forceinline__ void SyncGroup() {
    ptx::SyncThreads(kFirstConsumerBarrier + group_idx_, kGroupThreads);
  }
  __device__ __forceinline__ uint8_t* queries() {
    return reinterpret_cast<uint8_t*>(smem_.q[group_idx_]);
  }

  __device__ __forceinline__ void LoadQueries(const cuda::QueryTile& tile) {
    ForEachRowPart(tile, params_.q_row_stride, [&](int64_t place, int byte) {
      uint2 part = make_uint2(0u, 0u);
      if (place >= 0) part = *reinterpret_cast<const uint2*>(params_.q + place);
      *reinterpret_cast<uint2*>(queries() + byte) = part;
    });
    ptx::FenceForAsyncReaders();
    SyncGroup();
  }

  __device__ __forceinline__ void StartScores(float (&scores)[kScores], int stage_idx) {
    constexpr uint32_t kStage = kTileKeys * Shape::kHeadDim * 2 / 16;
#pragma unroll
    for (int step = 0; step < kKeySteps; ++step) {
      const uint32_t in_slab = static_cast<uint32_t>(step % 4) * ptx::kStep32;
      const uint32_t slab = static_cast<uint32_t>(step / 4);
      const uint64_t q = ptx::TileDescriptor(q_ + slab * (kGroupRows * 128 / 16) + in_slab);
      const uint64_t k = ptx::TileDescriptor(k_ + static_cast<uint32_t>(stage_idx) * kStage +
                                             slab * (kTileKeys * 128 / 16) + in_slab);
      if (step == 0) {
        ptx::MultiplyF16<false>(scores, q, k);
      } else {
        ptx::MultiplyF16<true>(scores, q, k);
      }
    }
    ptx::CommitProducts();
  }

  __device__ __forceinline__ void StartValues(float (&out)[Shape::kAccumulators],
                                              const uint32_t (&weights)[kValueSteps][4],
                                              int stage_idx) {
    constexpr uint32_t kPage = Shape::kHeadDim * 128 / 16;
#pragma unroll
    for (int step = 0; step < kValueSteps; ++step) {
      const uint32_t tile = v_ + static_cast<uint32_t>(stage_idx * kTilePages + step / 4) * kPage +
                            static_cast<uint32_t>(step % 4) * ptx::kStep32;
      ptx::MultiplyF16(out, weights[step], ptx::TileDescriptor(tile));
    }
    ptx::CommitProducts();
  }

  // Logits of keys a row does not see become -infinity.
  __device__ __forceinline__ void Mask(float (&scores)[kScores], const int (&positions)[2],
                                       int kv_tile) {
    const int t = lane_idx_ % 4;
    const int first = kv_tile * kTileKeys + t / 2 * 16 + t % 2 * 8;  // See PlaceOf().
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int position = first + j / 8 * kPageTokens + j % 2 * 32 + j % 8 / 2 * 2 + e;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const bool is_seen = position <= positions[r] && position > positions[r] - params_.window;
          if (!is_seen) scores[4 * j + 2 * r + e] = -INFINITY;
        }
      }
    }
  }

  // Turns scores into weights relative to the new maxima; `factor` brings what there was to them.
  __device__ __forceinline__ void Weigh(float (&scores)[kScores], RowState& state,
                                        float (&factor)[2]) {
    const float scale = params_.softmax_scale;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float max = state.max[r];
#pragma unroll
      for (int j = 0; j < kScores / 4; ++j) {
        max = fmaxf(max, fmaxf(scores[4 * j + 2 * r], scores[4 * j + 2 * r + 1]));
      }
      max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
      max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
      // 0 where nothing was seen yet, so that -infinity stays out of differences.
      const float subtrahend = max == -INFINITY ? 0.0f : max * scale;
      factor[r] = ptx::Exp2Approx(__fmaf_rn(state.max[r], scale, -subtrahend));
      state.max[r] = max;
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kScores / 4; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[4 * j + 2 * r + e];
          score = ptx::Exp2Approx(__fmaf_rn(score, scale, -subtrahend));
          sum += score;
        }
      }
      state.sum[r] = __fmaf_rn(state.sum[r], factor[r], sum);
    }
  }

  // The weights as operands of the product with the values.
  __device__ __forceinline__ void Pack(const float (&scores)[kScores],
                                       uint32_t (&weights)[kValueSteps][4]) {
#pragma unroll
    for (int step = 0; step < kValueSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &scores[8 * step + 2 * i];
        const __half2 rounded = __floats2half2_rn(pair[0], pair[1]);
        weights[step][i] = reinterpret_cast<const uint32_t&>(rounded);
      }
    }
  }

  __device__ __forceinline__ void Release(uint64_t* barrier) {
    if (lane_idx_ == 0) ptx::Arrive(barrier);
  }

  __device__ __forceinline__ void Attend(const cuda::QueryTile& tile, int first_kv_tile,
                                         int end_kv_tile) {
    int positions[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int column =
          tile.first_column + group_idx_ * kGroupRows + warp_idx_ * 16 + lane_idx_ / 4 + 8 * r;
      positions[r] = tile.num_seen_by_all - 1 + column / params_.group_heads -
                     tile.first_column / params_.group_heads;
    }
    float out[Shape::kAccumulators];
#pragma unroll
    for (float& x : out) x = 0.0f;
    RowState state{{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    float factor[2];
    float scores[kScores];
    uint32_t weights[kValueSteps][4];

    ptx::Wait(&smem_.k_full[keys_.stage_idx], keys_.phase);
    ptx::FenceProducts();
    StartScores(scores, keys_.stage_idx);
    ptx::WaitProducts<0>();
    Release(&smem_.k_empty[keys_.stage_idx]);
    keys_.Advance();
    const auto mask = [&](int kv_tile) {
      const int first = kv_tile * kTileKeys;
      if (!tile.AllSee(first, first + kTileKeys)) Mask(scores, positions, kv_tile);
    };
    mask(first_kv_tile);
    Weigh(scores, state, factor);
    Pack(scores, weights);

    for (int kv_tile = first_kv_tile + 1; kv_tile < end_kv_tile; ++kv_tile) {
      ptx::Wait(&smem_.k_full[keys_.stage_idx], keys_.phase);
      ptx::FenceProducts();
      StartScores(scores, keys_.stage_idx);
      ptx::Wait(&smem_.v_full[values_.stage_idx], values_.phase);
      StartValues(out, weights, values_.stage_idx);
      ptx::WaitProducts<1>();
      Release(&smem_.k_empty[keys_.stage_idx]);
      keys_.Advance();
      mask(kv_tile);
      Weigh(scores, state, factor);
      ptx::WaitProducts<0>();
      Release(&smem_.v_empty[values_.stage_idx]);
      values_.Advance();
#pragma unroll
      for (int i = 0; i < Shape::kAccumulators; ++i) out[i] *= factor[i / 2 % 2];
      Pack(scores, weights);
    }

    ptx::Wait(&smem_.v_full[values_.stage_idx], values_.phase);
    ptx::FenceProducts();
    StartValues(out, weights, values_.stage_idx);
    ptx::WaitProducts<0>();
    Release(&smem_.v_empty[values_.stage_idx]);
    values_.Advance();
    Store(tile, state, out);
  }

  // Passes KV tiles in which this warpgroup has no rows.
  __device__ __forceinline__ void Skip(int num_kv_tiles) {
    for (int i = 0; i < num_kv_tiles; ++i) {
      ptx::Wait(&smem_.k_full[keys_.stage_idx], keys_.phase);
      Release(&smem_.k_empty[keys_.stage_idx]);
      keys_.Advance();
      ptx::Wait(&smem_.v_full[values_.stage_idx], values_.phase);
      Release(&smem_.v_empty[values_.stage_idx]);
      values_.Advance();
    }
  }

  // Divides, and stores whole rows by way of the queries' shared memory, which is free.
  __device__ __forceinline__ void Store(const cuda::QueryTile& tile, const RowState& state,
                                        const float (&out)[Shape::kAccumulators]) {
    const int t = lane_idx_ % 4;
    SyncGroup();  // All products with the queries have ended.
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = state.sum[r];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float inverse = 1.0f / sum;
      const int row = warp_idx_ * 16 + lane_idx_ / 4 + 8 * r;
#pragma unroll
      for (int j = 0; j < Shape::kAccumulators / 4; ++j) {
        const __half2 pair =
            __floats2half2_rn(out[4 * j + 2 * r] * inverse, out[4 * j + 2 * r + 1] * inverse);
        const int byte = j / 8 * (kGroupRows * 128) + SwizzledByte(row, j % 8) + t * 4;
        *reinterpret_cast<__half2*>(queries() + byte) = pair;
      }
    }
    __syncwarp();
    ForEachRowPart(tile, params_.out_row_stride, [&](int64_t place, int byte) {
      if (place < 0) return;
      *reinterpret_cast<uint2*>(params_.out + place) =
          *reinterpret_cast<const uint2*>(queries() + byte);
    });
    __syncwarp();  // The next queries come here.
  }

  const cuda::AttentionParams& params_;
  PrefillSmem<Shape>& smem_;
  const int group_idx_;
  const int warp_idx_;
  const int lane_idx_;
  const uint32_t q_, k_, v_;  // As ptx::TileAddress().
  StageCursor keys_;
  StageCursor values_;
};

}  // namespace comet::sm90
