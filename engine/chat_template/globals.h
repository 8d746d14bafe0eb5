#pragma once

#include <span>
#include <string_view>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// The functions every template sees: range, dict, namespace, raise_exception, strftime_now.
struct GlobalFunction {
  std::string_view name;
  BuiltinFunction function;
};
std::span<const GlobalFunction> GlobalFunctions();

}  // namespace comet::jinja
