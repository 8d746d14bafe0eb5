#pragma once

#include <string>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// How Python writes values. Errors of all: kResourceExhausted for a limit of the sandbox.

// str(value) as a string value; a string stays itself.
Result<Value> ToText(Sandbox& sandbox, const Value& value);

// repr(value): strings quoted.
Result<std::string> ToRepr(Sandbox& sandbox, const Value& value);

// repr of a float: the shortest digits that read back the same, "1.0", "1e+16".
std::string FloatRepr(double value);

// json.dumps(value, ensure_ascii=..., indent=..., separators=..., sort_keys=...).
struct JsonStyle {
  bool ensures_ascii = false;
  bool has_indent = false;
  std::string indent;  // One level of it.
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sorts_keys = false;
};
// Errors also: kInvalidArgument for what JSON has no form for.
Result<std::string> ToJson(Sandbox& sandbox, const Value& value, const JsonStyle& style);

}  // namespace comet::jinja
