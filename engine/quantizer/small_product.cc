#include "engine/quantizer/small_product.h"

#include "kernels/base/wide_vectors.h"

namespace comet {
namespace {

// Rows of c that share a load of b, and rows of b for one load and store of c: sixteen products for
// twelve accesses, with registers to spare in 256 bits.
constexpr size_t kRows = 4;
constexpr size_t kInner = 4;

// Adds a[4, 4] b[4, columns] to four rows.
COMET_WIDE_VECTORS void AddFourByFour(const float (&a)[kRows][kInner], const float* b,
                                      size_t b_stride, size_t columns, float* __restrict c0,
                                      float* __restrict c1, float* __restrict c2,
                                      float* __restrict c3) {
  const float* b0 = b;
  const float* b1 = b0 + b_stride;
  const float* b2 = b1 + b_stride;
  const float* b3 = b2 + b_stride;
  for (size_t j = 0; j < columns; ++j) {
    c0[j] = (((c0[j] + a[0][0] * b0[j]) + a[0][1] * b1[j]) + a[0][2] * b2[j]) + a[0][3] * b3[j];
    c1[j] = (((c1[j] + a[1][0] * b0[j]) + a[1][1] * b1[j]) + a[1][2] * b2[j]) + a[1][3] * b3[j];
    c2[j] = (((c2[j] + a[2][0] * b0[j]) + a[2][1] * b1[j]) + a[2][2] * b2[j]) + a[2][3] * b3[j];
    c3[j] = (((c3[j] + a[3][0] * b0[j]) + a[3][1] * b1[j]) + a[3][2] * b2[j]) + a[3][3] * b3[j];
  }
}

COMET_WIDE_VECTORS void AddOne(float a, const float* __restrict b, size_t columns,
                               float* __restrict c) {
  for (size_t j = 0; j < columns; ++j) c[j] += a * b[j];
}

}  // namespace

void AddProduct(const StridedMatrix& a, const float* b, size_t b_stride, const ProductShape& shape,
                float* c, size_t c_stride) {
  const auto at = [&](size_t r, size_t i) {
    return a.data[r * a.row_stride + i * a.column_stride];
  };
  const size_t whole_inner = shape.inner / kInner * kInner;
  size_t r = 0;
  for (; r + kRows <= shape.rows; r += kRows) {
    float* rows = c + r * c_stride;
    for (size_t i = 0; i < whole_inner; i += kInner) {
      float factors[kRows][kInner];
      for (size_t row = 0; row < kRows; ++row) {
        for (size_t k = 0; k < kInner; ++k) factors[row][k] = at(r + row, i + k);
      }
      AddFourByFour(factors, b + i * b_stride, b_stride, shape.columns, rows, rows + c_stride,
                    rows + 2 * c_stride, rows + 3 * c_stride);
    }
    for (size_t i = whole_inner; i < shape.inner; ++i) {
      for (size_t row = 0; row < kRows; ++row) {
        AddOne(at(r + row, i), b + i * b_stride, shape.columns, rows + row * c_stride);
      }
    }
  }
  for (; r < shape.rows; ++r) {
    for (size_t i = 0; i < shape.inner; ++i) {
      AddOne(at(r, i), b + i * b_stride, shape.columns, c + r * c_stride);
    }
  }
}

}  // namespace comet
