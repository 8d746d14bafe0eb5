#include "engine/quantizer/activation_statistics.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/model/pack_floats.h"
#include "engine/quantizer/float_product.h"
#include "engine/quantizer/parallel_rows.h"
#include "engine/quantizer/transposed.h"

namespace comet {
namespace {

// 0 for a row of zeros.
float InverseRootMeanSquare(std::span<const float> row) {
  double sum = 0.0;
  for (const float value : row) sum += double{value} * double{value};
  return sum > 0.0 ? static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(row.size())))
                   : 0.0f;
}

// Rows of one width, wherever they are.
struct RowList {
  RowList(std::span<const HostRows> windows, std::span<const int> window_tokens) {
    if (windows.empty()) return;
    width = windows[0].size() / static_cast<size_t>(window_tokens[0]);
    for (size_t i = 0; i < windows.size(); ++i) {
      for (size_t first = 0; first < windows[i].size(); first += width) {
        rows.push_back(windows[i].data() + first);
      }
    }
  }
  std::span<const float> operator[](size_t t) const { return {rows[t], width}; }

  size_t width = 0;
  std::vector<const float*> rows;
};

// The products that AddRows() sums up.
class RowSums {
 public:
  RowSums(Backend& backend, std::span<const float> factors, int num_threads)
      : backend_(backend), factors_(factors), num_threads_(num_threads) {}

  // rows - minus (empty: 0), each row times its factor, transposed: [width, num_tokens].
  HostRows Weigh(const RowList& rows, const RowList& minus) const;

  // Adds x x^T of x [K, num_tokens]: what lies above the diagonal's blocks is taken from below.
  Status AddSquare(std::span<const float> x, std::vector<float>& sum);
  // Adds y x^T of y [any, num_tokens].
  Status AddProduct(std::span<const float> y, std::vector<float>& sum);

 private:
  // Channels of one block of the symmetric product: fewer leave out more of its upper half, and
  // cost another pass over the rest.
  static constexpr size_t kBlock = 96;

  Backend& backend_;
  std::span<const float> factors_;
  int num_threads_;
  std::vector<std::unique_ptr<PackedLinear>> blocks_;  // Of x.
};

HostRows RowSums::Weigh(const RowList& rows, const RowList& minus) const {
  return TransposeRows(factors_.size(), rows.width, num_threads_,
                       [&](size_t t, size_t column, size_t count, float* out) {
                         const float* row = rows.rows[t] + column;
                         const float factor = factors_[t];
                         for (size_t k = 0; k < count; ++k) out[k] = row[k] * factor;
                         if (minus.width == 0) return;
                         const float* less = minus.rows[t] + column;
                         for (size_t k = 0; k < count; ++k) out[k] -= less[k] * factor;
                       });
}

// Adds [rows, columns] to a part of `sum`, whose rows have `width` values.
void AddPart(const HostRows& part, size_t columns, size_t width, int num_threads, float* sum) {
  ParallelRows(num_threads, static_cast<int>(part.size() / columns), [&](int first, int last) {
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      for (size_t j = 0; j < columns; ++j) sum[i * width + j] += part[i * columns + j];
    }
  });
}

Status RowSums::AddSquare(std::span<const float> x, std::vector<float>& sum) {
  const size_t num_tokens = factors_.size();
  const size_t width = x.size() / num_tokens;
  sum.resize(width * width);
  HostRows part;
  for (size_t begin = 0; begin < width; begin += kBlock) {
    const size_t columns = std::min(kBlock, width - begin);
    const std::span<const float> below = x.subspan(begin * num_tokens);
    COMET_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> packed,
                           PackFloats(*backend_.ops, below.first(columns * num_tokens),
                                      static_cast<int>(columns), static_cast<int>(num_tokens)));
    COMET_RETURN_IF_ERROR(MultiplyByTransposed(backend_, below, *packed, part));
    AddPart(part, columns, width, num_threads_, sum.data() + begin * width + begin);
    blocks_.push_back(std::move(packed));
  }
  ParallelRows(num_threads_, static_cast<int>(width), [&](int first, int last) {
    // As many rows are read side by side as a line has values.
    for (size_t line = 0; line < width; line += kLineFloats) {
      for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
        for (size_t j = std::max(line, i + 1); j < std::min(line + kLineFloats, width); ++j) {
          sum[i * width + j] = sum[j * width + i];
        }
      }
    }
  });
  return Status::Ok();
}

Status RowSums::AddProduct(std::span<const float> y, std::vector<float>& sum) {
  size_t width = 0;
  for (const auto& block : blocks_) width += static_cast<size_t>(block->num_outputs());
  sum.resize(y.size() / factors_.size() * width);
  HostRows part;
  size_t begin = 0;
  for (const auto& block : blocks_) {
    COMET_RETURN_IF_ERROR(MultiplyByTransposed(backend_, y, *block, part));
    const size_t columns = static_cast<size_t>(block->num_outputs());
    AddPart(part, columns, width, num_threads_, sum.data() + begin);
    begin += columns;
  }
  return Status::Ok();
}

void AddRange(const RowList& rows, int sample_stride, int num_threads,
              ActivationStatistics& statistics) {
  statistics.abs_max.resize(rows.width);
  ParallelRows(num_threads, static_cast<int>(rows.width), [&](int begin, int end) {
    for (const float* row : rows.rows) {
      for (size_t k = static_cast<size_t>(begin); k < static_cast<size_t>(end); ++k) {
        statistics.abs_max[k] = std::max(statistics.abs_max[k], std::abs(row[k]));
      }
    }
  });
  for (const float* row : rows.rows) {
    if (statistics.num_tokens % sample_stride == 0) {
      statistics.sample.insert(statistics.sample.end(), row, row + rows.width);
      ++statistics.num_sample_tokens;
    }
    ++statistics.num_tokens;
  }
}

}  // namespace

float ActivationStatistics::GramFactor() const {
  const size_t n = static_cast<size_t>(num_channels);
  double trace = 0.0;
  for (size_t k = 0; k < n; ++k) trace += double{gram[k * (n + 1)]};
  // All inputs zero: every channel counts the same.
  return trace > 0.0 ? static_cast<float>(static_cast<double>(n) / trace) : 0.0f;
}

std::vector<float> ActivationStatistics::DampedGram(float damping) const {
  const size_t n = static_cast<size_t>(num_channels);
  const float factor = GramFactor();
  std::vector<float> damped(gram.size());
  for (size_t i = 0; i < gram.size(); ++i) damped[i] = factor * gram[i];
  for (size_t k = 0; k < n; ++k) damped[k * (n + 1)] += damping;
  return damped;
}

std::vector<float> ActivationStatistics::Activity() const {
  std::vector<float> activity;
  for (size_t k = 0; k < gram.size(); k += static_cast<size_t>(num_channels) + 1) {
    activity.push_back(gram[k]);
  }
  return activity;
}

Status AddRows(Backend& backend, const CalibrationRows& rows, int num_threads,
               ActivationStatistics& statistics) {
  statistics.num_channels = rows.num_channels;
  std::vector<int> window_tokens;
  for (const HostRows& window : rows.inputs) {
    window_tokens.push_back(static_cast<int>(window.size()) / rows.num_channels);
  }
  const RowList inputs(rows.inputs, window_tokens);
  AddRange(inputs, rows.sample_stride, num_threads, statistics);

  const RowList weighting(rows.weighting, window_tokens);
  std::vector<float> factors(inputs.rows.size());
  ParallelRows(num_threads, static_cast<int>(factors.size()), [&](int first, int last) {
    for (size_t t = static_cast<size_t>(first); t < static_cast<size_t>(last); ++t) {
      factors[t] = InverseRootMeanSquare(weighting[t]);
    }
  });
  RowSums sums(backend, factors, num_threads);
  const RowList nothing({}, {});
  COMET_RETURN_IF_ERROR(sums.AddSquare(sums.Weigh(inputs, nothing), statistics.gram));
  if (!rows.float_inputs.empty()) {
    const RowList float_inputs(rows.float_inputs, window_tokens);
    COMET_RETURN_IF_ERROR(sums.AddProduct(sums.Weigh(float_inputs, inputs), statistics.drift));
  }
  if (!rows.gap.empty()) {
    const RowList gap(rows.gap, window_tokens);
    COMET_RETURN_IF_ERROR(sums.AddProduct(sums.Weigh(gap, nothing), statistics.gap));
  }
  return Status::Ok();
}

}  // namespace comet
