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

// Python's operators. Errors of all: kInvalidArgument with Python's message for operands that do
// not go together; kResourceExhausted for a limit.

// kAdd to kPower. Integers are 64 bits; a result beyond is kInvalidArgument.
Result<Value> Arithmetic(Sandbox& sandbox, Operator op, const Value& left, const Value& right);

// kEqual to kNotIn.
Result<bool> Compare(Sandbox& sandbox, Operator op, const Value& left, const Value& right);

Result<bool> Equal(Sandbox& sandbox, const Value& left, const Value& right);
// Below 0, 0 or above 0; `op` is for the message. Not-a-number comes last.
Result<int> Order(Sandbox& sandbox, const Value& left, const Value& right, Operator op);
Result<bool> Contains(Sandbox& sandbox, const Value& container, const Value& item);

// `object.name`, and `object[index]`; undefined when there is no such thing. An attribute that is a
// method gives a callable.
Result<Value> GetAttribute(Sandbox& sandbox, const Value& object, std::string_view name);
Result<Value> GetItem(Sandbox& sandbox, const Value& object, const Value& index);

// `object[start:stop:step]`; undefined or none is an absent bound.
Result<Value> Slice(Sandbox& sandbox, const Value& object, const Value& start, const Value& stop,
                    const Value& step);

Result<int64_t> Length(Sandbox& sandbox, const Value& value);

// What a for statement goes through: items, keys, characters. Consumes a generator.
Result<std::shared_ptr<List>> Iterate(Sandbox& sandbox, const Value& value);

}  // namespace comet::jinja
