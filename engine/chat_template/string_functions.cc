#include "engine/chat_template/string_functions.h"

#include <algorithm>
#include <charconv>

#include "engine/chat_template/python_text.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

// Joins the first parts again, so that the last splits_max cuts stay.
void KeepLastCuts(std::string_view text, std::vector<std::string_view>& parts, int64_t splits_max) {
  const auto num_parts = static_cast<int64_t>(parts.size());
  if (splits_max < 0 || num_parts <= splits_max + 1) return;
  const int64_t last_joined = num_parts - splits_max - 1;
  const std::string_view last = parts[last_joined];
  parts[last_joined] = text.substr(0, last.data() + last.size() - text.data());
  parts.erase(parts.begin(), parts.begin() + last_joined);
}

// One character follows each `to` where `from` is empty.
Result<Value> Interleave(Sandbox& sandbox, std::string_view text, std::string_view to,
                         int64_t count_max) {
  std::string out;
  size_t pos = 0;
  for (int64_t i = 0; pos <= text.size() && (count_max < 0 || i < count_max); ++i) {
    out += to;
    COMET_RETURN_IF_ERROR(sandbox.CheckTextBytes(static_cast<int64_t>(out.size())));
    if (pos == text.size()) return sandbox.NewString(std::move(out));
    const size_t num_bytes = CodePointBytes(text, pos);
    out += text.substr(pos, num_bytes);
    pos += num_bytes;
  }
  out += text.substr(pos);
  return sandbox.NewString(std::move(out));
}

}  // namespace

std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator,
                                      int64_t splits_max, bool is_from_right) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (is_from_right || splits_max < 0 || static_cast<int64_t>(parts.size()) < splits_max) {
    const size_t end = Find(text, separator, begin);
    if (end == std::string_view::npos) break;
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  if (is_from_right) KeepLastCuts(text, parts, splits_max);
  return parts;
}

std::vector<std::string_view> SplitAtSpaces(std::string_view text, int64_t splits_max,
                                            bool is_from_right) {
  std::vector<std::string_view> parts;
  text = Strip(text, is_from_right ? Ends::kRight : Ends::kLeft);
  std::string_view rest = Strip(text, Ends::kLeft);
  while (!rest.empty()) {
    if (!is_from_right && splits_max >= 0 && static_cast<int64_t>(parts.size()) == splits_max) {
      parts.push_back(rest);
      break;
    }
    size_t end = 0;
    while (end < rest.size()) {
      const size_t num_bytes = CodePointBytes(rest, end);
      if (Strip(rest.substr(end, num_bytes), Ends::kLeft).empty()) break;
      end += num_bytes;
    }
    parts.push_back(rest.substr(0, end));
    rest = Strip(rest.substr(end), Ends::kLeft);
  }
  if (is_from_right && !parts.empty()) KeepLastCuts(text, parts, splits_max);
  return parts;
}

std::vector<std::string_view> LinesOf(std::string_view text, bool keeps_ends) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    const size_t end_bytes =
        end == text.size() ? 0 : (text.substr(end).starts_with("\r\n") ? 2 : 1);
    lines.push_back(text.substr(0, end + (keeps_ends ? end_bytes : 0)));
    text.remove_prefix(end + end_bytes);
  }
  return lines;
}

Result<Value> NewStrings(Sandbox& sandbox, const std::vector<std::string_view>& parts) {
  std::vector<Value> strings;
  strings.reserve(parts.size());
  for (const std::string_view part : parts) {
    COMET_ASSIGN_OR_RETURN(Value string, sandbox.NewString(std::string(part)));
    strings.push_back(std::move(string));
  }
  return sandbox.NewList(std::move(strings));
}

Result<Value> Replace(Sandbox& sandbox, std::string_view text, std::string_view from,
                      std::string_view to, int64_t count_max) {
  COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(text.size())));
  if (from.empty()) return Interleave(sandbox, text, to, count_max);
  std::string out;
  size_t begin = 0;
  for (int64_t i = 0; count_max < 0 || i < count_max; ++i) {
    const size_t end = Find(text, from, begin);
    if (end == std::string_view::npos) break;
    out += text.substr(begin, end - begin);
    out += to;
    COMET_RETURN_IF_ERROR(sandbox.CheckTextBytes(static_cast<int64_t>(out.size())));
    begin = end + from.size();
  }
  out += text.substr(begin);
  return sandbox.NewString(std::move(out));
}

Result<Value> Join(Sandbox& sandbox, const std::vector<Value>& items, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    COMET_RETURN_IF_ERROR(sandbox.Spend(1));
    COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox, items[i]));
    if (i > 0) out += separator;
    out += text.text();
    COMET_RETURN_IF_ERROR(sandbox.CheckTextBytes(static_cast<int64_t>(out.size())));
  }
  return sandbox.NewString(std::move(out));
}

Result<Value> FormatField(const Arguments& arguments, std::string_view field,
                          size_t& next_positional) {
  size_t index = next_positional;
  if (field.empty()) {
    ++next_positional;
  } else {
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), index);
    if (error != std::errc() || end != field.data() + field.size()) {
      for (const auto& [name, value] : arguments.named) {
        if (name == field) return value;
      }
      return InvalidArgument(StrCat("format(): there is no argument for {", field, "}"));
    }
  }
  if (index < arguments.positional.size()) return arguments.positional[index];
  return InvalidArgument(StrCat("format(): there is no argument for {", field, "}"));
}

}  // namespace comet::jinja
