#include "engine/quantizer/transposed.h"

#include <gtest/gtest.h>

#include <vector>

namespace comet {
namespace {

TEST(Transposed, SwapsRowsAndColumnsOfEveryShape) {
  for (const size_t num_rows : {1, 16, 37, 64}) {
    for (const size_t num_columns : {1, 15, 16, 48, 50}) {
      std::vector<float> matrix(num_rows * num_columns);
      for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<float>(i);
      const HostRows transposed = Transposed(matrix, static_cast<int>(num_columns), 3);

      ASSERT_EQ(transposed.size(), matrix.size());
      for (size_t row = 0; row < num_rows; ++row) {
        for (size_t column = 0; column < num_columns; ++column) {
          ASSERT_EQ(transposed[column * num_rows + row], matrix[row * num_columns + column])
              << num_rows << " x " << num_columns;
        }
      }
    }
  }
}

// Values that are made as they are moved.
TEST(TransposeRows, TakesWhatFillGives) {
  constexpr size_t kRows = 35;
  constexpr size_t kColumns = 50;
  const HostRows transposed =
      TransposeRows(kRows, kColumns, 2, [](size_t row, size_t column, size_t count, float* out) {
        for (size_t k = 0; k < count; ++k) out[k] = static_cast<float>(100 * row + column + k);
      });

  for (size_t row = 0; row < kRows; ++row) {
    for (size_t column = 0; column < kColumns; ++column) {
      ASSERT_EQ(transposed[column * kRows + row], static_cast<float>(100 * row + column));
    }
  }
}

}  // namespace
}  // namespace comet
