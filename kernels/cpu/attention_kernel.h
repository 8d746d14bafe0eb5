#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet::cpu {

// Attention of a tile of rows over one KV head, 256 positions at a time: the group's keys and
// values are dequantised once for all rows, then every row computes (max, sum, output) of the group
// afresh and folds it into its running state.
//
// Keys lie channel-major, [head_dim][256], so sixteen positions share a vector and a logit needs no
// sum across lanes; values lie position-major, [256][value_width]. What a row computes, and in
// which order, depends on its own position only: rows share loads, never arithmetic.
template <typename Simd>
class AttentionKernel {
 public:
  static void Attend(const AttentionTile& tile) {
    const int num_positions = tile.num_visible[tile.num_rows - 1];
    const int first_group = FirstVisible(tile, 0) / kGroupTokens * kGroupTokens;
    for (int begin = first_group; begin < num_positions; begin += kGroupTokens) {
      const int count = Smaller(kGroupTokens, num_positions - begin);
      DequantizeKeys(tile, begin, count);
      DequantizeValues(tile, begin, count);
      for (int row = 0; row < tile.num_rows; row += kRowTile) {
        AttendRows(tile, begin, row, Smaller(kRowTile, tile.num_rows - row));
      }
    }
    for (int row = 0; row < tile.num_rows; ++row) {
      float* out = tile.out + row * tile.layout->value_width;
      RowKernels<Simd>::Divide(out, tile.sum[row], tile.layout->value_width);
    }
  }

 private:
  using F = typename Simd::F;
  static constexpr int kKeyVectors = Simd::kKeyVectors;
  static constexpr int kValueVectors = Simd::kValueVectors;

  static int Smaller(int a, int b) { return a < b ? a : b; }
  static int Larger(int a, int b) { return a > b ? a : b; }

  // The first position that a row reads. It ascends with the rows, as num_visible does.
  static int FirstVisible(const AttentionTile& tile, int row) {
    return tile.window == 0 ? 0 : Larger(0, tile.num_visible[row] - tile.window);
  }

  // Calls fn with the number of rows as a template value, so that accumulators are registers.
  template <typename Fn>
  static void WithRowCount(int num_rows, const Fn& fn) {
    static_assert(kRowTile == 4);
    switch (num_rows) {
      case 1: return fn.template operator()<1>();
      case 2: return fn.template operator()<2>();
      case 3: return fn.template operator()<3>();
      case 4: return fn.template operator()<4>();
    }
  }

  // (scale * code) + minimum, as the contract reads a code.
  static F Decode(F code, F scale, F minimum) { return Simd::Add(Simd::Mul(scale, code), minimum); }

  static void DequantizeKeys(const AttentionTile& tile, int begin, int count) {
    for (int p = 0; p < count; p += kPageTokens) {
      const uint8_t* head = tile.heads[(begin + p) / kPageTokens];
      for (int token = 0; token < Smaller(kPageTokens, count - p); token += kLanes) {
        DequantizeKeyLanes(*tile.layout, head, token, tile.keys + p + token);
      }
    }
  }

  // Sixteen tokens of one page, all channels.
  static void DequantizeKeyLanes(const KvHeadLayout& layout, const uint8_t* head, int token,
                                 float* out) {
    const uint8_t* keys = head + layout.keys_offset;
    F scale = Simd::Set(0.0f);
    F minimum = scale;
    if (layout.k_bits <= 8) {
      const uint16_t* row_scale =
          reinterpret_cast<const uint16_t*>(head + layout.key_scale_offset) + token;
      scale = Simd::LoadHalf(row_scale);
      minimum = Simd::LoadHalf(row_scale + kPageTokens);
    }
    for (int d = 0; d < layout.head_dim; ++d) {
      const uint8_t* channel = keys + d * (kPageTokens * layout.k_bits / 8);
      F key;
      if (layout.k_bits == 4) {
        key = token < kPageTokens / 2 ? Simd::LoadLowNibbles(channel + token)
                                      : Simd::LoadHighNibbles(channel + token - kPageTokens / 2);
        key = Decode(key, scale, minimum);
      } else if (layout.k_bits == 8) {
        key = Decode(Simd::LoadBytes(channel + token), scale, minimum);
      } else if (layout.k_bits == 16) {
        key = Simd::LoadHalf(reinterpret_cast<const uint16_t*>(channel) + token);
      } else {
        key = Simd::Load(reinterpret_cast<const float*>(channel) + token);
      }
      Simd::Store(out + d * kGroupTokens, key);
    }
  }

  static void DequantizeValues(const AttentionTile& tile, int begin, int count) {
    const int width = tile.layout->value_width;
    for (int p = 0; p < count; ++p) {
      const uint8_t* head = tile.heads[(begin + p) / kPageTokens];
      DequantizeValueRow(*tile.layout, head, (begin + p) % kPageTokens, tile.values + p * width);
    }
  }

  static void DequantizeValueRow(const KvHeadLayout& layout, const uint8_t* head, int token,
                                 float* out) {
    const int width = layout.value_width;
    const uint8_t* row = head + layout.values_offset + token * (width * layout.v_bits / 8);
    if (layout.v_bits == 32) {
      std::memcpy(out, row, static_cast<size_t>(width) * sizeof(float));
      return;
    }
    if (layout.v_bits == 16) {
      return RowKernels<Simd>::HalfToFloat(reinterpret_cast<const uint16_t*>(row), width, out);
    }
    const uint16_t* row_scale =
        reinterpret_cast<const uint16_t*>(head + layout.value_scale_offset) + token;
    const F scale = Simd::Set(ToFloat(Half{row_scale[0]}));
    const F minimum = Simd::Set(ToFloat(Half{row_scale[kPageTokens]}));
    for (int d = 0; d < width; d += 2 * kLanes) {
      const F low =
          layout.v_bits == 4 ? Simd::LoadLowNibbles(row + d / 2) : Simd::LoadBytes(row + d);
      const F high = layout.v_bits == 4 ? Simd::LoadHighNibbles(row + d / 2)
                                        : Simd::LoadBytes(row + d + kLanes);
      Simd::Store(out + d, Decode(low, scale, minimum));
      Simd::Store(out + d + kLanes, Decode(high, scale, minimum));
    }
  }

  // The positions of a group that a row reads.
  struct Range {
    int begin;
    int end;
  };

  // The group that begins at `begin`, for rows [first_row, first_row + num_rows).
  static void AttendRows(const AttentionTile& tile, int begin, int first_row, int num_rows) {
    // Rows ascend: those that end before this group come first, those that start after it last.
    while (num_rows > 0 && tile.num_visible[first_row] <= begin) {
      ++first_row;
      --num_rows;
    }
    const auto first_visible = [&](int r) { return FirstVisible(tile, first_row + r); };
    while (num_rows > 0 && first_visible(num_rows - 1) >= begin + kGroupTokens) --num_rows;
    if (num_rows == 0) return;
    Range ranges[kRowTile] = {};
    for (int r = 0; r < num_rows; ++r) {
      ranges[r] = {.begin = Larger(0, first_visible(r) - begin),
                   .end = Smaller(kGroupTokens, tile.num_visible[first_row + r] - begin)};
    }

    Logits(tile, first_row, num_rows, ranges[num_rows - 1].end);
    float group_max[kRowTile] = {};
    float group_sum[kRowTile] = {};
    for (int r = 0; r < num_rows; ++r) {
      Softmax(tile.logits + r * kGroupTokens, ranges[r], &group_max[r], &group_sum[r]);
    }
    Outputs(tile, num_rows, ranges);
    for (int r = 0; r < num_rows; ++r) {
      const float* group_out = tile.group_out + r * tile.layout->value_width;
      Fold(tile, first_row + r, begin <= first_visible(r), {group_max[r], group_sum[r], group_out});
    }
  }

  // logits[r][p] = softmax_scale * (q[r] . key[p]) for p < count, and some past it.
  static void Logits(const AttentionTile& tile, int first_row, int num_rows, int count) {
    const float* q = tile.q + int64_t{first_row} * tile.layout->head_dim;
    WithRowCount(num_rows, [&]<int kRows>() {
      for (int p = 0; p < count; p += kKeyVectors * kLanes) {
        LogitLanes<kRows>(tile, q, p, tile.logits + p);
      }
    });
  }

  template <int kRows>
  static void LogitLanes(const AttentionTile& tile, const float* q, int p, float* logits) {
    const int head_dim = tile.layout->head_dim;
    F acc[kRows][kKeyVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kKeyVectors; ++v) acc[r][v] = Simd::Set(0.0f);
    }
    for (int d = 0; d < head_dim; ++d) {
      F keys[kKeyVectors];
      for (int v = 0; v < kKeyVectors; ++v) {
        keys[v] = Simd::Load(tile.keys + d * kGroupTokens + p + v * kLanes);
      }
      for (int r = 0; r < kRows; ++r) {
        const F q_lanes = Simd::Set(q[r * head_dim + d]);
        for (int v = 0; v < kKeyVectors; ++v) acc[r][v] = Simd::Fma(q_lanes, keys[v], acc[r][v]);
      }
    }
    const F scale = Simd::Set(tile.softmax_scale);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kKeyVectors; ++v) {
        Simd::Store(logits + r * kGroupTokens + v * kLanes, Simd::Mul(acc[r][v], scale));
      }
    }
  }

  // Replaces the range's logits by Exp(logit - max), those before it by zeros.
  static void Softmax(float* logits, const Range& range, float* group_max, float* group_sum) {
    const int count = range.end;
    const float max = RowKernels<Simd>::MaxValue(logits + range.begin, count - range.begin);
    const F max_lanes = Simd::Set(max);
    const F zero = Simd::Set(0.0f);
    F sum = zero;
    const int first = range.begin / kLanes * kLanes;
    for (int p = first; p < count; p += kLanes) {
      const F weight = ExpLanes<Simd>(Simd::Sub(Simd::Load(logits + p), max_lanes));
      F kept = Simd::SelectFirst(count - p, weight, zero);
      if (p < range.begin) kept = Simd::SelectFirst(range.begin - p, zero, kept);
      Simd::Store(logits + p, kept);
      sum = Simd::Add(sum, kept);
    }
    *group_max = max;
    *group_sum = Simd::SumHalves(sum);
  }

  // group_out[r] = sum over p in ranges[r], ascending, of weight[r][p] * value[p].
  static void Outputs(const AttentionTile& tile, int num_rows, const Range* ranges) {
    const int width = tile.layout->value_width;
    std::memset(tile.group_out, 0, static_cast<size_t>(num_rows * width) * sizeof(float));
    for (int d = 0; d < width;) {
      const int num_lanes = width - d >= kValueVectors * kLanes ? kValueVectors * kLanes : kLanes;
      if (num_lanes == kLanes) {
        OutputLanes<1>(tile, num_rows, ranges, d);
      } else {
        OutputLanes<kValueVectors>(tile, num_rows, ranges, d);
      }
      d += num_lanes;
    }
  }

  // Positions every row sees go together, the few that remain row by row.
  template <int kVectors>
  static void OutputLanes(const AttentionTile& tile, int num_rows, const Range* ranges, int d) {
    const int shared_end = ranges[0].end;
    const int shared_begin = Smaller(ranges[num_rows - 1].begin, shared_end);
    for (int r = 0; r < num_rows; ++r) {
      Accumulate<1, kVectors>(tile, r, d, ranges[r].begin, shared_begin);
    }
    WithRowCount(num_rows, [&]<int kRows>() {
      Accumulate<kRows, kVectors>(tile, 0, d, shared_begin, shared_end);
    });
    for (int r = 0; r < num_rows; ++r) {
      Accumulate<1, kVectors>(tile, r, d, Larger(ranges[r].begin, shared_end), ranges[r].end);
    }
  }

  template <int kRows, int kVectors>
  static void Accumulate(const AttentionTile& tile, int row, int d, int begin, int end) {
    if (begin >= end) return;
    const int width = tile.layout->value_width;
    const float* weights = tile.logits + row * kGroupTokens;
    float* out = tile.group_out + row * width + d;
    F acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) acc[r][v] = Simd::Load(out + r * width + v * kLanes);
    }
    for (int p = begin; p < end; ++p) {
      F values[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        values[v] = Simd::Load(tile.values + p * width + d + v * kLanes);
      }
      for (int r = 0; r < kRows; ++r) {
        const F weight = Simd::Set(weights[r * kGroupTokens + p]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] = Simd::Fma(weight, values[v], acc[r][v]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) Simd::Store(out + r * width + v * kLanes, acc[r][v]);
    }
  }

  struct Group {
    float max;
    float sum;
    const float* out;
  };

  static void Fold(const AttentionTile& tile, int row, bool is_first, const Group& group) {
    const int width = tile.layout->value_width;
    float* out = tile.out + row * width;
    if (is_first) {
      tile.max[row] = group.max;
      tile.sum[row] = group.sum;
      std::memcpy(out, group.out, static_cast<size_t>(width) * sizeof(float));
      return;
    }
    const float max = tile.max[row] > group.max ? tile.max[row] : group.max;
    const float state_factor = Exp(tile.max[row] - max);
    const float group_factor = Exp(group.max - max);
    tile.max[row] = max;
    tile.sum[row] = tile.sum[row] * state_factor + group.sum * group_factor;
    const F state_lanes = Simd::Set(state_factor);
    const F group_lanes = Simd::Set(group_factor);
    for (int d = 0; d < width; d += kLanes) {
      const F state = Simd::Mul(Simd::Load(out + d), state_lanes);
      Simd::Store(out + d, Simd::Add(state, Simd::Mul(Simd::Load(group.out + d), group_lanes)));
    }
  }
};

}  // namespace comet::cpu
