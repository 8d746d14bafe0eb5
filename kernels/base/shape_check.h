#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "kernels/base/status.h"
#include "kernels/base/str_cat.h"
#include "kernels/base/tensor_view.h"

namespace comet {

// A named dimension: bound by the first tensor that has it, compared by the others.
struct Dim {
  explicit Dim(std::string_view dim_name) : name(dim_name) {}
  Dim(std::string_view dim_name, int dim_value) : name(dim_name), value(dim_value) {}
  std::string_view name;
  int value = -1;
};

// Collects the first broken rule of an op's contract. Names are borrowed. Confined to one call.
class ShapeCheck {
 public:
  explicit ShapeCheck(std::string_view op) : op_(op) {}

  ShapeCheck& Shape(std::string_view name, const ConstTensorView& tensor,
                    std::initializer_list<Dim*> dims);
  ShapeCheck& DTypeIn(std::string_view name, const ConstTensorView& tensor,
                      std::initializer_list<DType> allowed);
  ShapeCheck& SameDType(std::string_view name, const ConstTensorView& tensor,
                        std::string_view other_name, const ConstTensorView& other);
  ShapeCheck& UnitStride(std::string_view name, const ConstTensorView& tensor);
  ShapeCheck& Contiguous(std::string_view name, const ConstTensorView& tensor);
  // The parts are joined only when the rule is broken: ops are checked hundreds of times a step.
  template <typename... Parts>
  ShapeCheck& Require(bool condition, const Parts&... message_parts) {
    if (!condition) Fail(StrCat(message_parts...));
    return *this;
  }

  const Status& status() const { return status_; }

 private:
  void Fail(const std::string& message);

  std::string_view op_;
  Status status_;
};

}  // namespace comet
