#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// What is in a value. Errors of all: kInvalidArgument with Python's message; kResourceExhausted for
// a limit.

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
