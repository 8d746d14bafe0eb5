#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "kernels/base/check.h"
#include "kernels/base/dtype.h"

namespace comet {

inline constexpr int kTensorRankMax = 4;

// Shape and strides of a tensor, outermost first. Strides are in elements; the innermost is 1
// unless an op's contract says otherwise.
class TensorShape {
 public:
  TensorShape() = default;
  // Contiguous.
  TensorShape(std::initializer_list<int> dims);

  int rank() const { return rank_; }
  int dim(int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t stride(int i) const { return strides_[static_cast<size_t>(i)]; }
  int64_t num_elements() const;
  bool is_contiguous() const;

  void set_stride(int i, int64_t stride) { strides_[static_cast<size_t>(i)] = stride; }
  void set_dim(int i, int dim) { dims_[static_cast<size_t>(i)] = dim; }

  // "[3, 576]"
  std::string ToString() const;

 private:
  int rank_ = 0;
  std::array<int, kTensorRankMax> dims_{};
  std::array<int64_t, kTensorRankMax> strides_{};
};

// A borrowed tensor in device memory: on a CPU back end `data` is a host pointer. An absent
// optional tensor is a default-constructed view (data() == nullptr).
template <typename Pointer>
class BasicTensorView {
 public:
  BasicTensorView() = default;
  BasicTensorView(Pointer data, DType dtype, TensorShape shape)
      : data_(data), dtype_(dtype), shape_(shape) {}

  // A mutable view reads as a const one.
  operator BasicTensorView<const void*>() const  // NOLINT: implicit
      requires(!std::is_same_v<Pointer, const void*>) {
    return {data_, dtype_, shape_};
  }

  bool is_present() const { return data_ != nullptr; }
  Pointer data() const { return data_; }
  DType dtype() const { return dtype_; }
  const TensorShape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int dim(int i) const { return shape_.dim(i); }
  int64_t stride(int i) const { return shape_.stride(i); }

  // First element as T, whose size must be the dtype's.
  template <typename T>
  auto* as() const {
    COMET_CHECK(static_cast<int>(sizeof(T)) == BytesOf(dtype_));
    using Qualified = std::conditional_t<std::is_same_v<Pointer, const void*>, const T, T>;
    return static_cast<Qualified*>(data_);
  }

  // Rows [first, first + count) of the outermost dimension.
  BasicTensorView Rows(int first, int count) const {
    COMET_CHECK(first >= 0 && count >= 0 && first + count <= dim(0));
    TensorShape shape = shape_;
    shape.set_dim(0, count);
    using Byte =
        std::conditional_t<std::is_same_v<Pointer, const void*>, const std::byte, std::byte>;
    return {static_cast<Byte*>(data_) + first * stride(0) * BytesOf(dtype_), dtype_, shape};
  }

 private:
  Pointer data_ = nullptr;
  DType dtype_ = DType::kF32;
  TensorShape shape_;
};

using TensorView = BasicTensorView<void*>;
using ConstTensorView = BasicTensorView<const void*>;

}  // namespace comet
