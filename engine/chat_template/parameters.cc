#include "engine/chat_template/parameters.h"

#include <algorithm>

#include "kernels/base/str_cat.h"

namespace comet::jinja {

Result<Parameters> Parameters::Bind(const Arguments& arguments, std::string_view function,
                                    std::initializer_list<std::string_view> names,
                                    size_t num_required) {
  Parameters bound;
  bound.function_ = function;
  bound.names_ = names;
  bound.values_.resize(names.size());
  bound.is_given_.resize(names.size());
  if (arguments.positional.size() > names.size()) {
    return InvalidArgument(StrCat(function, "() takes ", names.size(), " arguments, got ",
                                  arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    bound.values_[i] = arguments.positional[i];
    bound.is_given_[i] = true;
  }
  for (const auto& [name, value] : arguments.named) {
    const auto it = std::find(bound.names_.begin(), bound.names_.end(), name);
    const auto i = static_cast<size_t>(it - bound.names_.begin());
    if (it == bound.names_.end() || bound.is_given_[i]) {
      return InvalidArgument(
          StrCat(function, "() got an unexpected or repeated argument '", name, "'"));
    }
    bound.values_[i] = value;
    bound.is_given_[i] = true;
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (!bound.is_given_[i]) {
      return InvalidArgument(StrCat(function, "() misses its argument '", bound.names_[i], "'"));
    }
  }
  return bound;
}

Result<int64_t> Parameters::Integer(size_t i, int64_t absent) const {
  if (!has(i)) return absent;
  if (!values_[i].is_integral()) return WrongType(i, "an integer");
  return values_[i].as_integer();
}

Result<std::string> Parameters::String(size_t i, std::string_view absent) const {
  if (!has(i)) return std::string(absent);
  if (!values_[i].is(Kind::kString)) return WrongType(i, "a string");
  return values_[i].text();
}

Status Parameters::WrongType(size_t i, std::string_view expected) const {
  if (values_[i].is(Kind::kUndefined)) return InvalidArgument(values_[i].what());
  return InvalidArgument(StrCat(function_, "(): ", names_[i], " is a ", values_[i].type_name(),
                                ", expected ", expected));
}

}  // namespace comet::jinja
