#include "engine/quantizer/transposed.h"

#include <cstring>

#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

constexpr size_t kEight = 8;
using Eight = float __attribute__((vector_size(kEight * sizeof(float))));

// The quarters of an 8 x 8 tile change places, then those of each quarter, then of each of these.
inline void TransposeEight(Eight (&rows)[kEight]) {
  for (size_t i = 0; i < 4; ++i) {
    const Eight a = rows[i];
    const Eight b = rows[i + 4];
    rows[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    rows[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (const size_t i : {0, 1, 4, 5}) {
    const Eight a = rows[i];
    const Eight b = rows[i + 2];
    rows[i] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
    rows[i + 2] = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (const size_t i : {0, 2, 4, 6}) {
    const Eight a = rows[i];
    const Eight b = rows[i + 1];
    rows[i] = __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
    rows[i + 1] = __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
  }
}

}  // namespace

COMET_WIDE_VECTORS void TransposeTile(const float* tile, float* out, size_t out_stride) {
  for (size_t row = 0; row < kLineFloats; row += kEight) {
    for (size_t column = 0; column < kLineFloats; column += kEight) {
      Eight rows[kEight];
      for (size_t i = 0; i < kEight; ++i) {
        std::memcpy(&rows[i], tile + (row + i) * kLineFloats + column, sizeof(Eight));
      }
      TransposeEight(rows);
      for (size_t i = 0; i < kEight; ++i) {
        std::memcpy(out + (column + i) * out_stride + row, &rows[i], sizeof(Eight));
      }
    }
  }
}

HostRows Transposed(std::span<const float> matrix, int num_columns, int num_threads) {
  const size_t width = static_cast<size_t>(num_columns);
  return TransposeRows(matrix.size() / width, width, num_threads,
                       [&](size_t row, size_t column, size_t count, float* out) {
                         std::copy_n(matrix.data() + row * width + column, count, out);
                       });
}

}  // namespace comet
