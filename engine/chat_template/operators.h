#pragma once

#include <cstdint>
#include <string_view>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

enum class Operator {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessOrEqual,
  kGreater,
  kGreaterOrEqual,
  kIn,
  kNotIn,
};

std::string_view ToString(Operator op);

// Python's operators: arithmetic in operators.cc, the rest in comparisons.cc. Errors of all:
// kInvalidArgument with Python's message for operands that do not go together; kResourceExhausted
// for a limit.

// kAdd to kPower. Integers are 64 bits; a result beyond is kInvalidArgument.
Result<Value> Arithmetic(Sandbox& sandbox, Operator op, const Value& left, const Value& right);

// kEqual to kNotIn.
Result<bool> Compare(Sandbox& sandbox, Operator op, const Value& left, const Value& right);

Result<bool> Equal(Sandbox& sandbox, const Value& left, const Value& right);
// Below 0, 0 or above 0; `op` is for the message. Not-a-number comes last.
Result<int> Order(Sandbox& sandbox, const Value& left, const Value& right, Operator op);
Result<bool> Contains(Sandbox& sandbox, const Value& container, const Value& item);

}  // namespace comet::jinja
