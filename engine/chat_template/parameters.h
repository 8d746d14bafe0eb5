#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "engine/chat_template/value.h"
#include "kernels/base/status.h"

namespace comet::jinja {

// The arguments of one call under the names of the function's parameters, as Python binds them.
class Parameters {
 public:
  // Errors: kInvalidArgument for too many arguments, an unknown name, or fewer than num_required.
  static Result<Parameters> Bind(const Arguments& arguments, std::string_view function,
                                 std::initializer_list<std::string_view> names,
                                 size_t num_required = 0);

  bool has(size_t i) const { return is_given_[i]; }
  // Undefined when not given.
  const Value& operator[](size_t i) const { return values_[i]; }

  // The value where given, else `absent`. Errors: kInvalidArgument for another type.
  Result<int64_t> Integer(size_t i, int64_t absent) const;
  Result<std::string> String(size_t i, std::string_view absent) const;
  // Any type has a truth value.
  bool Boolean(size_t i, bool absent) const { return has(i) ? values_[i].is_true() : absent; }

 private:
  Status WrongType(size_t i, std::string_view expected) const;

  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<Value> values_;
  std::vector<bool> is_given_;
};

}  // namespace comet::jinja
