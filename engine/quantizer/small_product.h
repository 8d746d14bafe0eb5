#pragma once

#include <cstddef>

namespace comet {

// A matrix as it lies: element [i, j] at data[i * row_stride + j * column_stride].
struct StridedMatrix {
  const float* data = nullptr;
  size_t row_stride = 0;
  size_t column_stride = 1;
};

struct ProductShape {
  size_t rows = 0;
  size_t inner = 0;
  size_t columns = 0;
};

// c[r, j] += sum over i of a[r, i] * b[i, j], i ascending, each product and each sum rounded. Rows
// of b and c are contiguous, `*_stride` floats apart. For matrices that stay in a core's cache: no
// blocking. c overlaps neither a nor b.
void AddProduct(const StridedMatrix& a, const float* b, size_t b_stride, const ProductShape& shape,
                float* c, size_t c_stride);

}  // namespace comet
