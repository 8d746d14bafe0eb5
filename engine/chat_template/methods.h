#pragma once

#include <string_view>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// The methods of strings, lists, dicts and loops: those that templates use and that change nothing,
// and list.append().

bool HasMethod(const Value& self, std::string_view name);

// Errors: kInvalidArgument for arguments the method does not take; kResourceExhausted for a limit.
Result<Value> CallMethod(Sandbox& sandbox, const Value& self, std::string_view name,
                         const Arguments& arguments);

// One entry of a type's methods.
struct Method {
  std::string_view name;
  Result<Value> (*call)(Sandbox& sandbox, const Value& self, const Arguments& arguments);
};

// Null when strings have no such method.
const Method* FindStringMethod(std::string_view name);

}  // namespace comet::jinja
