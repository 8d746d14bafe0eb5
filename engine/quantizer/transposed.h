#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "engine/quantizer/host_rows.h"
#include "engine/quantizer/parallel_rows.h"
#include "kernels/base/math.h"

namespace comet {

// out [kLineFloats, kLineFloats], rows `out_stride` apart, becomes the transpose of `tile`.
void TransposeTile(const float* tile, float* out, size_t out_stride);

// [num_rows, num_columns], whose rows fill(row, first_column, count, out) gives in parts of at most
// kLineFloats values, as [num_columns, num_rows]. Every line of the cache is read and written
// once as a whole: with rows a power of two apart few of them stay.
template <typename Fill>
HostRows TransposeRows(size_t num_rows, size_t num_columns, int num_threads, const Fill& fill) {
  HostRows transposed(num_rows * num_columns);
  const auto transpose_columns = [&](size_t column) {
    alignas(64) float tile[kLineFloats * kLineFloats] = {};  // At an edge all of it is moved too.
    alignas(64) float edge[kLineFloats * kLineFloats];
    const size_t width = std::min(kLineFloats, num_columns - column);
    for (size_t row = 0; row < num_rows; row += kLineFloats) {
      const size_t height = std::min(kLineFloats, num_rows - row);
      for (size_t i = 0; i < height; ++i) fill(row + i, column, width, tile + i * kLineFloats);
      float* out = transposed.data() + column * num_rows + row;
      if (width == kLineFloats && height == kLineFloats) {
        TransposeTile(tile, out, num_rows);
        continue;
      }
      TransposeTile(tile, edge, kLineFloats);
      for (size_t j = 0; j < width; ++j) {
        std::copy_n(edge + j * kLineFloats, height, out + j * num_rows);
      }
    }
  };
  ParallelRows(num_threads, static_cast<int>(CeilDiv(num_columns, kLineFloats)),
               [&](int first, int last) {
                 for (int i = first; i < last; ++i) {
                   transpose_columns(static_cast<size_t>(i) * kLineFloats);
                 }
               });
  return transposed;
}

// [num_rows, num_columns] to [num_columns, num_rows].
HostRows Transposed(std::span<const float> matrix, int num_columns, int num_threads);

}  // namespace comet
