#include "engine/quantizer/attention_gradient.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/small_product.h"
#include "kernels/base/math.h"
#include "kernels/base/row_functions.h"
#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

// Tokens of one piece of work: with the keys and values of a head, what it reads stays in the
// second-level cache.
constexpr size_t kTile = 32;

struct Sizes {
  explicit Sizes(const AttentionShape& shape)
      : tokens(static_cast<size_t>(shape.num_tokens)),
        dim(static_cast<size_t>(shape.head_dim)),
        heads(static_cast<size_t>(shape.num_heads)),
        kv_heads(static_cast<size_t>(shape.num_kv_heads)),
        group(heads / kv_heads),
        window(static_cast<size_t>(shape.window)),
        stride(tokens + kLineFloats),
        num_tiles(CeilDiv(tokens, kTile)),
        q_width(heads * dim),
        kv_width(kv_heads * dim),
        scale(1.0f / std::sqrt(static_cast<float>(shape.head_dim))) {}

  size_t FirstVisible(size_t position) const {
    return window == 0 || position < window ? 0 : position - window + 1;
  }
  size_t TileEnd(size_t tile) const { return std::min((tile + 1) * kTile, tokens); }

  size_t tokens, dim, heads, kv_heads, group, window;
  // Of rows of one value a token: with 512, 1024 ... few of them would stay in the cache.
  size_t stride;
  size_t num_tiles, q_width, kv_width;
  float scale;
};

// [dim, num_tokens] of one KV head, rows sizes.stride apart.
HostRows TransposedHead(const Sizes& sizes, const HostRows& rows, size_t head) {
  HostRows transposed(sizes.dim * sizes.stride);
  for (size_t t = 0; t < sizes.tokens; ++t) {
    const float* row = rows.data() + t * sizes.kv_width + head * sizes.dim;
    for (size_t d = 0; d < sizes.dim; ++d) transposed[d * sizes.stride + t] = row[d];
  }
  return transposed;
}

std::vector<HostRows> TransposedHeads(const Sizes& sizes, const HostRows& rows, int num_threads) {
  std::vector<HostRows> heads(sizes.kv_heads);
  ParallelRows(num_threads, static_cast<int>(sizes.kv_heads), [&](int first, int last) {
    for (size_t head = static_cast<size_t>(first); head < static_cast<size_t>(last); ++head) {
      heads[head] = TransposedHead(sizes, rows, head);
    }
  });
  return heads;
}

// Calls body(head, tile) for `num_heads` heads times all tiles, those with most to do first.
template <typename Body>
void ForTiles(size_t num_heads, size_t num_tiles, bool last_is_longest, int num_threads,
              const Body& body) {
  ParallelRows(num_threads, static_cast<int>(num_heads * num_tiles), [&](int first, int last) {
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      const size_t tile = i / num_heads;
      body(i % num_heads, last_is_longest ? num_tiles - 1 - tile : tile);
    }
  });
}

// Rows [tile * kTile, TileEnd(tile)) of left right', their columns from the first that a row of the
// tile sees to the tile's end; `rows` is [kTile, num_tokens], sizes.stride apart.
void TileProducts(const Sizes& sizes, size_t tile, const float* left, size_t left_stride,
                  const HostRows& right_transposed, float* rows) {
  const size_t first = tile * kTile;
  const size_t end = sizes.TileEnd(tile);
  const size_t begin = sizes.FirstVisible(first);
  for (size_t r = 0; r < end - first; ++r) {
    std::fill(rows + r * sizes.stride + begin, rows + r * sizes.stride + end, 0.0f);
  }
  AddProduct({.data = left + first * left_stride, .row_stride = left_stride},
             right_transposed.data() + begin, sizes.stride,
             {.rows = end - first, .inner = sizes.dim, .columns = end - begin}, rows + begin,
             sizes.stride);
}

// The tile's scores become probabilities, what a row does not see 0.
void SoftmaxTile(const Sizes& sizes, size_t tile, float* rows) {
  const size_t end = sizes.TileEnd(tile);
  const size_t tile_begin = sizes.FirstVisible(tile * kTile);
  for (size_t t = tile * kTile; t < end; ++t) {
    float* row = rows + (t - tile * kTile) * sizes.stride;
    const size_t begin = sizes.FirstVisible(t);
    const std::span<float> visible(row + begin, t + 1 - begin);
    const float sum = ExpOfRow(sizes.scale, MaxOf(visible), visible);
    for (float& value : visible) value /= sum;
    std::fill(row + tile_begin, row + begin, 0.0f);
    std::fill(row + t + 1, row + end, 0.0f);
  }
}

COMET_WIDE_VECTORS void ScoreGradientOfRow(float scale, float mean, const float* __restrict p,
                                           size_t count, float* __restrict gradient) {
  for (size_t j = 0; j < count; ++j) gradient[j] = scale * p[j] * (gradient[j] - mean);
}

// The gradient of the probabilities becomes that of the scores.
void SoftmaxGradientTile(const Sizes& sizes, size_t tile, const float* probabilities,
                         float* gradient) {
  const size_t end = sizes.TileEnd(tile);
  const size_t begin = sizes.FirstVisible(tile * kTile);
  for (size_t r = 0; r < end - tile * kTile; ++r) {
    const std::span<const float> p(probabilities + r * sizes.stride + begin, end - begin);
    const std::span<float> d(gradient + r * sizes.stride + begin, end - begin);
    ScoreGradientOfRow(sizes.scale, DotOf(p, d), p.data(), p.size(), d.data());
  }
}

// Clears rows of `dim` values, `stride` apart.
void ClearRows(size_t num_rows, size_t dim, size_t stride, float* rows) {
  for (size_t r = 0; r < num_rows; ++r) std::fill_n(rows + r * stride, dim, 0.0f);
}

// The same rows of `out`, of one head, become the tile's rows times `values`, of one KV head.
void MultiplyTile(const Sizes& sizes, size_t tile, const float* rows, const float* values,
                  float* out) {
  const size_t first = tile * kTile;
  const size_t end = sizes.TileEnd(tile);
  const size_t begin = sizes.FirstVisible(first);
  ClearRows(end - first, sizes.dim, sizes.q_width, out + first * sizes.q_width);
  AddProduct({.data = rows + begin, .row_stride = sizes.stride}, values + begin * sizes.kv_width,
             sizes.kv_width, {.rows = end - first, .inner = end - begin, .columns = sizes.dim},
             out + first * sizes.q_width, sizes.q_width);
}

// Adds `rows`' [num_tokens, num_tokens, sizes.stride apart] transpose times `values`, of one head,
// to the tile's rows of `out`, of one KV head: from every later tile of rows that sees it.
void AddTransposedTile(const Sizes& sizes, size_t tile, const float* rows, const float* values,
                       float* out) {
  const size_t first = tile * kTile;
  const size_t count = sizes.TileEnd(tile) - first;
  for (size_t other = tile; other < sizes.num_tiles; ++other) {
    const size_t row = other * kTile;
    if (sizes.FirstVisible(row) >= first + count) break;
    // A later row of the tile may see less than its first: what lies ahead of that is not written.
    const size_t begin = std::max(first, sizes.FirstVisible(row));
    AddProduct(
        {.data = rows + row * sizes.stride + begin, .row_stride = 1, .column_stride = sizes.stride},
        values + row * sizes.q_width, sizes.q_width,
        {.rows = first + count - begin, .inner = sizes.TileEnd(other) - row, .columns = sizes.dim},
        out + begin * sizes.kv_width, sizes.kv_width);
  }
}

}  // namespace

HostRows CausalAttention(const AttentionShape& shape, const AttentionRows& rows, int num_threads) {
  const Sizes sizes(shape);
  const std::vector<HostRows> keys = TransposedHeads(sizes, rows.k, num_threads);
  HostRows out(rows.q.size());
  ForTiles(sizes.heads, sizes.num_tiles, true, num_threads, [&](size_t head, size_t tile) {
    const size_t kv_head = head / sizes.group;
    HostRows scores(kTile * sizes.stride);
    TileProducts(sizes, tile, rows.q.data() + head * sizes.dim, sizes.q_width, keys[kv_head],
                 scores.data());
    SoftmaxTile(sizes, tile, scores.data());
    MultiplyTile(sizes, tile, scores.data(), rows.v.data() + kv_head * sizes.dim,
                 out.data() + head * sizes.dim);
  });
  return out;
}

AttentionRows CausalAttentionGradient(const AttentionShape& shape, const AttentionRows& rows,
                                      std::span<const float> out_gradient, int num_threads) {
  const Sizes sizes(shape);
  const std::vector<HostRows> keys = TransposedHeads(sizes, rows.k, num_threads);
  const std::vector<HostRows> values = TransposedHeads(sizes, rows.v, num_threads);
  AttentionRows gradient{
      .q = HostRows(rows.q.size()), .k = HostRows(rows.k.size()), .v = HostRows(rows.v.size())};
  // Of one KV head's query heads: [group, num_tokens, num_tokens], rows sizes.stride apart.
  const size_t square = sizes.tokens * sizes.stride;
  HostRows probabilities(sizes.group * square);
  HostRows d_scores(sizes.group * square);
  for (size_t kv_head = 0; kv_head < sizes.kv_heads; ++kv_head) {
    const size_t kv_offset = kv_head * sizes.dim;
    ForTiles(sizes.group, sizes.num_tiles, true, num_threads, [&](size_t member, size_t tile) {
      const size_t offset = (kv_head * sizes.group + member) * sizes.dim;
      const size_t first = member * square + tile * kTile * sizes.stride;
      float* p = probabilities.data() + first;
      float* d = d_scores.data() + first;
      TileProducts(sizes, tile, rows.q.data() + offset, sizes.q_width, keys[kv_head], p);
      SoftmaxTile(sizes, tile, p);
      TileProducts(sizes, tile, out_gradient.data() + offset, sizes.q_width, values[kv_head], d);
      SoftmaxGradientTile(sizes, tile, p, d);
      MultiplyTile(sizes, tile, d, rows.k.data() + kv_offset, gradient.q.data() + offset);
    });
    ForTiles(1, sizes.num_tiles, false, num_threads, [&](size_t, size_t tile) {
      const size_t first = tile * kTile;
      for (HostRows* rows_of_tile : {&gradient.k, &gradient.v}) {
        ClearRows(sizes.TileEnd(tile) - first, sizes.dim, sizes.kv_width,
                  rows_of_tile->data() + first * sizes.kv_width + kv_offset);
      }
      for (size_t member = 0; member < sizes.group; ++member) {
        const size_t offset = (kv_head * sizes.group + member) * sizes.dim;
        AddTransposedTile(sizes, tile, d_scores.data() + member * square, rows.q.data() + offset,
                          gradient.k.data() + kv_offset);
        AddTransposedTile(sizes, tile, probabilities.data() + member * square,
                          out_gradient.data() + offset, gradient.v.data() + kv_offset);
      }
    });
  }
  return gradient;
}

}  // namespace comet
