#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/chat_template/sandbox.h"
#include "engine/chat_template/value.h"

namespace comet::jinja {

// What string methods and filters share.

// str.split(separator): at most splits_max cuts, counted from the left or the right; negative: any.
std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator,
                                      int64_t splits_max, bool is_from_right);
// str.split(): at runs of white space, none at the ends.
std::vector<std::string_view> SplitAtSpaces(std::string_view text, int64_t splits_max,
                                            bool is_from_right);
// str.splitlines(), for \n, \r and \r\n.
std::vector<std::string_view> LinesOf(std::string_view text, bool keeps_ends);

Result<Value> NewStrings(Sandbox& sandbox, const std::vector<std::string_view>& parts);

// str.replace(); a negative count_max replaces all.
Result<Value> Replace(Sandbox& sandbox, std::string_view text, std::string_view from,
                      std::string_view to, int64_t count_max);

// The items as text with the separator between them.
Result<Value> Join(Sandbox& sandbox, const std::vector<Value>& items, std::string_view separator);

// The argument that a field of str.format() names.
Result<Value> FormatField(const Arguments& arguments, std::string_view field,
                          size_t& next_positional);

}  // namespace comet::jinja
