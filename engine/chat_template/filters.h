#pragma once

#include <string_view>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// `input | name(arguments)`. Errors: kInvalidArgument for an input or arguments the filter does not
// take; kResourceExhausted for a limit.
using Filter = Result<Value> (*)(Sandbox& sandbox, const Value& input, const Arguments& arguments);

// Null when there is no such filter.
Filter FindFilter(std::string_view name);

// The parts of FindFilter(), one a file.
Filter FindTextFilter(std::string_view name);
Filter FindListFilter(std::string_view name);
Filter FindNumberFilter(std::string_view name);

struct NamedFilter {
  std::string_view name;
  Filter filter;
};

}  // namespace comet::jinja
