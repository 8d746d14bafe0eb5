#pragma once

#include <string_view>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// `input is name(arguments)`. Errors: kInvalidArgument for arguments the test does not take or
// operands that can't be compared; kResourceExhausted for a limit.
using TypeTest = Result<bool> (*)(Sandbox& sandbox, const Value& input, const Arguments& arguments);

// Null when there is no such test.
TypeTest FindTypeTest(std::string_view name);

}  // namespace comet::jinja
