#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/random.h"
#include "kernels/base/tensor_view.h"

namespace comet {

// A tensor in host memory for tests: guard bytes lie before it, behind it and between strided rows.
class HostTensor {
 public:
  HostTensor() = default;
  // Contiguous when row_padding is 0, otherwise that many elements follow each row (rank 2).
  HostTensor(DType dtype, std::initializer_list<int> dims, int row_padding = 0);

  static HostTensor OfInts(const std::vector<int32_t>& values);
  static HostTensor OfFloats(const std::vector<float>& values);

  TensorView view();
  ConstTensorView view() const { return const_cast<HostTensor*>(this)->view(); }
  int dim(int i) const { return shape_.dim(i); }

  // Element [i, j] as a float (f32, f16) or an integer.
  double At(int i, int j) const;
  void Set(int i, int j, double value);
  // Uniform in [low, high).
  void FillUniform(Random& random, float low, float high);
  void FillNormal(Random& random, float scale);

  bool GuardsAreIntact() const;
  // The elements' bytes, without guards.
  std::vector<std::byte> ElementBytes() const;

 private:
  static constexpr int kGuardBytes = 256;

  int num_rows() const { return shape_.rank() == 2 ? shape_.dim(0) : 1; }
  int num_columns() const { return shape_.rank() == 0 ? 0 : shape_.dim(shape_.rank() - 1); }
  size_t OffsetOf(int i, int j) const;

  DType dtype_ = DType::kF32;
  TensorShape shape_;
  std::vector<std::byte> bytes_;
};

// Empty when both hold the same bits; otherwise the first place they differ and both values.
std::string DifferenceOf(const HostTensor& actual, const HostTensor& expected);
// Largest |actual - expected| over the largest |expected|.
double RelativeErrorOf(const HostTensor& actual, const HostTensor& expected);

}  // namespace comet
