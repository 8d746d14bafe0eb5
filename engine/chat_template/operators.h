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

// kAdd to kPower of Python. Integers are 64 bits. Errors: kInvalidArgument with Python's message
// for operands that do not go together, and for a result beyond 64 bits; kResourceExhausted for a
// limit.
Result<Value> Arithmetic(Sandbox& sandbox, Operator op, const Value& left, const Value& right);

}  // namespace comet::jinja
