#pragma once

#include "engine/chat_template/operators.h"
#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// Python's comparisons. Errors of all: kInvalidArgument with Python's message for operands that do
// not go together; kResourceExhausted for a limit.

// kEqual to kNotIn.
Result<bool> Compare(Sandbox& sandbox, Operator op, const Value& left, const Value& right);

Result<bool> Equal(Sandbox& sandbox, const Value& left, const Value& right);
// Below 0, 0 or above 0; `op` is for the message. Not-a-number comes last.
Result<int> Order(Sandbox& sandbox, const Value& left, const Value& right, Operator op);
Result<bool> Contains(Sandbox& sandbox, const Value& container, const Value& item);

}  // namespace comet::jinja
