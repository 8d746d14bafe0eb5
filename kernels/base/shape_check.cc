#include "kernels/base/shape_check.h"

#include <algorithm>

namespace comet {

void ShapeCheck::Fail(const std::string& message) {
  if (status_.ok()) status_ = InvalidArgument(StrCat(op_, ": ", message));
}

ShapeCheck& ShapeCheck::Shape(std::string_view name, const ConstTensorView& tensor,
                              std::initializer_list<Dim*> dims) {
  if (tensor.rank() != static_cast<int>(dims.size())) {
    Fail(StrCat(name, " has rank ", tensor.rank(), ", expected ", dims.size()));
    return *this;
  }
  int i = 0;
  for (Dim* dim : dims) {
    const int got = tensor.dim(i++);
    if (dim->value < 0) dim->value = got;
    if (got != dim->value) {
      Fail(StrCat(name, " is ", tensor.shape().ToString(), ": ", dim->name, " is ", got,
                  ", expected ", dim->value));
    }
  }
  if (!tensor.is_present() && tensor.shape().num_elements() != 0) Fail(StrCat(name, " is absent"));
  return *this;
}

ShapeCheck& ShapeCheck::DTypeIn(std::string_view name, const ConstTensorView& tensor,
                                std::initializer_list<DType> allowed) {
  if (std::find(allowed.begin(), allowed.end(), tensor.dtype()) == allowed.end()) {
    std::string want;
    for (const DType dtype : allowed) want += StrCat(want.empty() ? "" : " or ", ToString(dtype));
    Fail(StrCat(name, " is ", ToString(tensor.dtype()), ", expected ", want));
  }
  return *this;
}

ShapeCheck& ShapeCheck::SameDType(std::string_view name, const ConstTensorView& tensor,
                                  std::string_view other_name, const ConstTensorView& other) {
  if (tensor.dtype() != other.dtype()) {
    Fail(StrCat(other_name, " is ", ToString(other.dtype()), ", expected ",
                ToString(tensor.dtype()), " as ", name));
  }
  return *this;
}

ShapeCheck& ShapeCheck::UnitStride(std::string_view name, const ConstTensorView& tensor) {
  const int last = tensor.rank() - 1;
  if (last >= 0 && tensor.dim(last) > 1 && tensor.stride(last) != 1) {
    Fail(StrCat(name, "'s innermost stride is ", tensor.stride(last), ", expected 1"));
  }
  return *this;
}

ShapeCheck& ShapeCheck::Contiguous(std::string_view name, const ConstTensorView& tensor) {
  if (!tensor.shape().is_contiguous()) {
    Fail(StrCat(name, " ", tensor.shape().ToString(), " is not contiguous"));
  }
  return *this;
}

}  // namespace comet
