#include "engine/quantizer/error_feedback.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/triangular.h"
#include "kernels/base/math.h"
#include "kernels/base/packed_codes.h"
#include "kernels/base/wide_vectors.h"
#include "kernels/ops/linear_input.h"

namespace comet {
namespace {

// Rows worked on together: their values of one channel are a few vectors, and a tile of 1,536
// channels fits a second-level cache.
constexpr size_t kTileRows = 32;

using TileVector = std::array<float, kTileRows>;

// Where one channel's rounding error goes. Positions run by rising activity; rounding runs from the
// last to the first. spread[p, r], r < p: what the error of one unit at p takes off position r.
struct SpreadTable {
  std::vector<int> order;  // Position to channel.
  std::vector<float> spread;
};

std::vector<int> OrderByActivity(std::span<const float> gram, size_t num_channels) {
  std::vector<int> order(num_channels);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::less<>(), [&](int channel) {
    return gram[static_cast<size_t>(channel) * (num_channels + 1)];
  });
  return order;
}

// With H = D^1/2 C D^1/2 (C has a unit diagonal), C = L L^T and M = L^-1, the channels before p
// that are still free absorb an error e at p best by -e * (M[p, r] / M[p, p]) * sqrt(D[p] / D[r]).
SpreadTable MakeSpreadTable(std::span<const float> gram, size_t n, int num_threads) {
  SpreadTable table;
  table.order = OrderByActivity(gram, n);
  std::vector<float> root(n);
  for (size_t p = 0; p < n; ++p) {
    const float activity = gram[static_cast<size_t>(table.order[p]) * (n + 1)];
    root[p] = activity > 0.0f ? std::sqrt(activity) : 1.0f;  // A silent channel stands alone.
  }
  std::vector<float> correlation(n * n);
  for (size_t p = 0; p < n; ++p) {
    const float* row = gram.data() + static_cast<size_t>(table.order[p]) * n;
    for (size_t r = 0; r < p; ++r) {
      correlation[p * n + r] = row[table.order[r]] / (root[p] * root[r]);
    }
    correlation[p * n + p] = 1.0f;
  }
  FactorLower(correlation, n, num_threads);
  table.spread = InvertLower(correlation, n, num_threads);
  for (size_t p = 0; p < n; ++p) {
    float* row = table.spread.data() + p * n;
    for (size_t r = 0; r < p; ++r) row[r] = row[r] / row[p] * (root[p] / root[r]);
  }
  return table;
}

// Takes each position's share of the error off it.
COMET_WIDE_VECTORS void SpreadError(const float* spread, const TileVector& error, size_t count,
                                    TileVector* __restrict values) {
  for (size_t r = 0; r < count; ++r) {
    float* value = values[r].data();
    const float share = spread[r];
    for (size_t i = 0; i < kTileRows; ++i) value[i] -= share * error[i];
  }
}

// One tile of rows, channel-major in the order of the spread table.
class RowTile {
 public:
  RowTile(const SpreadTable& table, TwoLevelWeights& quantized)
      : table_(table), quantized_(quantized), values_(table.order.size()) {}

  void Quantize(std::span<const float> weights, size_t first_row, size_t num_rows);

 private:
  void Load(std::span<const float> weights);
  void RoundChannel(size_t position, TileVector& error);

  const SpreadTable& table_;
  TwoLevelWeights& quantized_;
  std::vector<TileVector> values_;
  size_t first_row_ = 0;
  size_t num_rows_ = 0;
};

void RowTile::Quantize(std::span<const float> weights, size_t first_row, size_t num_rows) {
  first_row_ = first_row;
  num_rows_ = num_rows;
  Load(weights);
  const size_t n = values_.size();
  for (size_t p = n; p-- > 0;) {
    TileVector error{};
    RoundChannel(p, error);
    SpreadError(table_.spread.data() + p * n, error, p, values_.data());
  }
}

void RowTile::Load(std::span<const float> weights) {
  const size_t n = values_.size();
  for (size_t p = 0; p < n; ++p) {
    values_[p].fill(0.0f);
    const size_t channel = static_cast<size_t>(table_.order[p]);
    for (size_t i = 0; i < num_rows_; ++i) {
      values_[p][i] = weights[(first_row_ + i) * n + channel];
    }
  }
}

void RowTile::RoundChannel(size_t position, TileVector& error) {
  const size_t n = values_.size();
  const size_t channel = static_cast<size_t>(table_.order[position]);
  const size_t num_blocks = CeilDiv<size_t>(n, kBlockChannels);
  for (size_t i = 0; i < num_rows_; ++i) {
    const size_t row = first_row_ + i;
    const int gamma = quantized_.steps[row * num_blocks + channel / kBlockChannels];
    const float step = quantized_.scale[row] * static_cast<float>(gamma);
    const float value = values_[position][i];
    float code = 0.0f;
    if (step != 0.0f) code = std::nearbyint(std::clamp<float>(value / step, kCodeMin, kCodeMax));
    error[i] = value - step * code;
    SetCode(quantized_.codes.data() + row * n / 2, channel, static_cast<int>(code));
  }
}

}  // namespace

void FeedBackErrors(std::span<const float> weights, std::span<const float> gram,
                    TwoLevelWeights& quantized, int num_threads) {
  const size_t num_rows = quantized.scale.size();
  const size_t num_channels = weights.size() / num_rows;
  const SpreadTable table = MakeSpreadTable(gram, num_channels, num_threads);
  const size_t num_tiles = CeilDiv(num_rows, kTileRows);
  ParallelRows(num_threads, static_cast<int>(num_tiles), [&](int first, int last) {
    RowTile tile(table, quantized);
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      const size_t first_row = t * kTileRows;
      tile.Quantize(weights, first_row, std::min(kTileRows, num_rows - first_row));
    }
  });
}

}  // namespace comet
