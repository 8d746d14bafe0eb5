#pragma once

#include <cmath>

#include "kernels/cuda/device/ptx_async_copy.cuh"
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
    ItemReader<Shape> items(smem_);
    cuda::QueryTile item = items.Next();
    if (item.sequence_idx < 0) return;
    float scores[kScores];
    if (group_idx_ == 1) PassTurn();
    StartQueries(item);
    AwaitQueries();
    ptx::FenceProducts();
    StartScores(scores, keys_.stage_idx);
    while (item.sequence_idx >= 0) item = Attend(item, items, scores);
    ptx::WaitProducts<0>();
  }

 private:
  __device__ __forceinline__ void SyncGroup() {
    ptx::SyncThreads(kFirstConsumerBarrier + group_idx_, kGroupThreads);
  }

  // The groups take turns at starting products, so that one weighs while the other multiplies.
  __device__ __forceinline__ void AwaitTurn() {
    ptx::SyncThreads(kFirstTurnBarrier + group_idx_, kAttentionConsumers * kGroupThreads);
  }
  __device__ __forceinline__ void PassTurn() {
    ptx::ArriveAtThreads(kFirstTurnBarrier + 1 - group_idx_, kAttentionConsumers * kGroupThreads);
  }

  // Element of q or out where row `row` of this group begins; -1 where there is no such row.
  __device__ __forceinline__ int64_t PlaceOfRow(const cuda::QueryTile& item, int64_t row_stride,
                                                int row) const {
    const int column_idx = group_idx_ * kGroupRows + row;
    if (column_idx >= item.num_columns) return -1;
    const int column = item.first_column + column_idx;
    const int query_idx = params_.QueryOf(column);
    const int head_idx =
        item.kv_head_idx * params_.group_heads + column - query_idx * params_.group_heads;
    return (item.first_row + query_idx) * row_stride + head_idx * Shape::kHeadDim;
  }

  // Starts copying this group's queries, 8 bytes a lane and rows whole; zeros where there are none.
  __device__ __forceinline__ void StartQueries(const cuda::QueryTile& item) {
    constexpr int kRowLanes = Shape::kHeadDim / 4;
    constexpr int kRowsAtOnce = kLanes / kRowLanes;
    const int channel = lane_idx_ % kRowLanes * 4;
    uint8_t* slab = reinterpret_cast<uint8_t*>(smem_.q[group_idx_][channel / kSlabHalves]);
#pragma unroll 4
    for (int i = 0; i < 16; i += kRowsAtOnce) {
      const int row = warp_idx_ * 16 + i + lane_idx_ / kRowLanes;
      const int64_t place = PlaceOfRow(item, params_.q_row_stride, row);
      const int byte = SwizzledByte(row, channel % kSlabHalves / 8) + channel % 8 * 2;
      ptx::StartAsyncCopy8(slab + byte, params_.q + (place >= 0 ? place + channel : 0),
                           place >= 0 ? 8 : 0);
    }
    ptx::CommitAsyncCopies();
  }

  // Until the queries and the first keys are there that belong to them.
  __device__ __forceinline__ void AwaitQueries() {
    ptx::WaitAsyncCopies<0>();
    ptx::FenceForAsyncReaders();
    SyncGroup();
    ptx::Wait(&smem_.k_full[keys_.stage_idx], keys_.phase);
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
      const float reference = max == -INFINITY ? 0.0f : max;
      // Exactly 1 where the maximum stays: whether a column meets a tile of masked keys alone
      // depends on where its chunk begins.
      factor[r] = ptx::Exp2Approx((state.max[r] - reference) * scale);
      const float subtrahend = reference * scale;
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

  // Attends to a tile whose first scores are under way, and returns the next one, its first scores
  // likewise. One KV tile's values and the next one's scores are multiplied while it weighs.
  __device__ __forceinline__ cuda::QueryTile Attend(const cuda::QueryTile& tile,
                                                    ItemReader<Shape>& items,
                                                    float (&scores)[kScores]) {
    const int first_kv_tile = FirstKvTile(tile);
    const int last_kv_tile = EndKvTile(tile) - 1;
    int positions[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int column =
          tile.first_column + group_idx_ * kGroupRows + warp_idx_ * 16 + lane_idx_ / 4 + 8 * r;
      positions[r] =
          tile.num_seen_by_all - 1 + params_.QueryOf(column) - params_.QueryOf(tile.first_column);
    }
    float out[Shape::kAccumulators];
#pragma unroll
    for (float& x : out) x = 0.0f;
    RowState state{{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    uint32_t weights[kValueSteps][4];
    cuda::QueryTile next;

    ptx::WaitProducts<0>();
    for (int kv_tile = first_kv_tile;; ++kv_tile) {
      Release(&smem_.k_empty[keys_.stage_idx]);
      keys_.Advance();
      if (kv_tile == last_kv_tile) {
        next = items.Next();
        SyncGroup();  // The products with the queries have ended in all warps.
        if (next.sequence_idx >= 0) StartQueries(next);
      }
      const int first_position = kv_tile * kTileKeys;
      if (!tile.AllSee(first_position, first_position + kTileKeys)) {
        Mask(scores, positions, kv_tile);
      }
      float factor[2];
      Weigh(scores, state, factor);
      ptx::WaitProducts<0>();
      if (kv_tile > first_kv_tile) ReleaseValues();
      // Times 1 where the maxima stay, as they mostly do.
      if (__any_sync(0xffffffffu, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
        for (int i = 0; i < Shape::kAccumulators; ++i) out[i] *= factor[i / 2 % 2];
      }
      Pack(scores, weights);
      if (kv_tile == last_kv_tile) break;

      ptx::Wait(&smem_.k_full[keys_.stage_idx], keys_.phase);
      ptx::Wait(&smem_.v_full[values_.stage_idx], values_.phase);
      AwaitTurn();
      ptx::FenceProducts();
      StartScores(scores, keys_.stage_idx);
      ptx::FenceProducts();  // Of its own, or the compiler lets every product wait for the last.
      StartValues(out, weights, values_.stage_idx);
      PassTurn();
      ptx::WaitProducts<1>();
    }

    ptx::Wait(&smem_.v_full[values_.stage_idx], values_.phase);
    AwaitTurn();
    ptx::FenceProducts();
    StartValues(out, weights, values_.stage_idx);
    if (next.sequence_idx >= 0) AwaitQueries();
    ptx::FenceProducts();
    StartScores(scores, keys_.stage_idx);  // Of anything, where there is no next.
    PassTurn();
    ptx::WaitProducts<1>();
    ReleaseValues();
    Store(tile, state, out);
    return next;
  }

  __device__ __forceinline__ void ReleaseValues() {
    Release(&smem_.v_empty[values_.stage_idx]);
    values_.Advance();
  }

  // Divides and stores: a thread has runs of neighbouring channels of its rows.
  __device__ __forceinline__ void Store(const cuda::QueryTile& tile, const RowState& state,
                                        const float (&out)[Shape::kAccumulators]) {
    constexpr int kRun = Shape::kHeadDim / 16;  // Of the page layout's four warps' channels.
    const int t = lane_idx_ % 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = state.sum[r];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float inverse = 1.0f / sum;
      const int row = warp_idx_ * 16 + lane_idx_ / 4 + 8 * r;
      const int64_t place = PlaceOfRow(tile, params_.out_row_stride, row);
      __half* out_row = params_.out + place + kRun * t;
#pragma unroll
      for (int i = 0; i < Shape::kHeadDim; i += 4) {  // Channels of a thread, in steps of 8 bytes.
        if (i % (4 * kRun) >= kRun) continue;
        uint32_t pairs[2];
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          float channels[2];
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            channels[c] = out[AccumulatorOf(i + 2 * pair + c) + 2 * r] * inverse;
          }
          const __half2 rounded = __floats2half2_rn(channels[0], channels[1]);
          pairs[pair] = reinterpret_cast<const uint32_t&>(rounded);
        }
        if (place >= 0) *reinterpret_cast<uint2*>(out_row + i) = make_uint2(pairs[0], pairs[1]);
      }
    }
  }

  // Which accumulator of lanes t = 0 holds a channel that is theirs: see kv_page_layout.cuh and
  // ExpandValues(). Lane t's is kRun t channels further.
  __device__ __forceinline__ static constexpr int AccumulatorOf(int channel) {
    constexpr int kTiles = Shape::kHeadDim / 64;
    const int in_warp = channel % (16 * kTiles);
    const int g = in_warp / (2 * kTiles);  // 0 or 1 of t = 0.
    const int tile = channel / (16 * kTiles) * kTiles + in_warp % (2 * kTiles) / 2;
    return 4 * (2 * tile + in_warp % 2) + g;
  }

  const cuda::AttentionParams& params_;
  PrefillSmem<Shape>& smem_;
  const int group_idx_;
  const int warp_idx_;
  const int lane_idx_;
  const uint32_t q_, k_, v_;  // As ptx::TileAddress().
  TileCursor keys_;
  TileCursor values_;
};

}  // namespace comet::sm90
