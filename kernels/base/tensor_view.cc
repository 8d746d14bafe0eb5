#include "kernels/base/tensor_view.h"

#include "kernels/base/str_cat.h"

namespace comet {

TensorShape::TensorShape(std::initializer_list<int> dims) {
  COMET_CHECK(dims.size() <= kTensorRankMax);
  for (const int dim : dims) dims_[static_cast<size_t>(rank_++)] = dim;
  int64_t stride = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    set_stride(i, stride);
    stride *= dim(i);
  }
}

int64_t TensorShape::num_elements() const {
  int64_t count = 1;
  for (int i = 0; i < rank_; ++i) count *= dim(i);
  return count;
}

bool TensorShape::is_contiguous() const {
  int64_t expected = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    if (dim(i) != 1 && stride(i) != expected) return false;
    expected *= dim(i);
  }
  return true;
}

std::string TensorShape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += StrCat(i == 0 ? "" : ", ", dim(i));
  return text + "]";
}

}  // namespace comet
