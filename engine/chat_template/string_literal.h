#pragma once

#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace comet::jinja {

// What stands between the quotes of a Python string literal, escapes resolved. An unknown escape
// stays as it is. Errors: kInvalidArgument for a truncated \x, \u or \U, or no code point.
Result<std::string> Unescape(std::string_view literal);

}  // namespace comet::jinja
