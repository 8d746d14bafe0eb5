#include <algorithm>

#include "engine/chat_template/filters.h"
#include "engine/chat_template/parameters.h"
#include "engine/chat_template/python_text.h"
#include "engine/chat_template/string_functions.h"
#include "engine/chat_template/unicode_text.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

constexpr int64_t kIndentWidth = 4;

// Jinja's title(): words begin after white space and opening brackets, not after apostrophes.
std::string TitleWords(std::string_view text) {
  std::string out;
  bool is_first = true;
  for (size_t pos = 0; pos < text.size();) {
    const std::string_view character = text.substr(pos, CodePointBytes(text, pos));
    out += is_first ? ToUpper(character) : ToLower(character);
    is_first = Strip(character, Ends::kLeft).empty() ||
               std::string_view("-({[<").find(character) != std::string_view::npos;
    pos += character.size();
  }
  return out;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out.push_back(c);
    }
  }
  return out;
}

std::string Unchanged(std::string_view text) { return std::string(text); }

// A filter without arguments that maps the text of any value.
template <std::string (*kMap)(std::string_view)>
Result<Value> MapText(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "the filter", {}).status());
  COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox, input));
  return sandbox.NewString(kMap(text.text()));
}

Result<Value> Trim(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound, Parameters::Bind(arguments, "trim", {"chars"}));
  COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox, input));
  if (!bound.has(0) || bound[0].is(Kind::kNone)) {
    return sandbox.NewString(std::string(Strip(text.text(), Ends::kBoth)));
  }
  COMET_ASSIGN_OR_RETURN(const std::string chars, bound.String(0, ""));
  COMET_RETURN_IF_ERROR(
      sandbox.SpendBytes(static_cast<int64_t>(text.text().size() * chars.size() / 16)));
  const std::string_view view = chars;
  return sandbox.NewString(std::string(Strip(text.text(), Ends::kBoth, &view)));
}

Result<Value> ReplaceText(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "replace", {"old", "new", "count"}, 2));
  COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox, input));
  COMET_ASSIGN_OR_RETURN(const Value from, ToText(sandbox, bound[0]));
  COMET_ASSIGN_OR_RETURN(const Value to, ToText(sandbox, bound[1]));
  const bool is_limited = bound.has(2) && !bound[2].is(Kind::kNone);
  COMET_ASSIGN_OR_RETURN(const int64_t count_max, is_limited ? bound.Integer(2, -1) : -1);
  return Replace(sandbox, text.text(), from.text(), to.text(), count_max);
}

// A number of spaces, or the text itself.
Result<std::string> IndentOf(Sandbox& sandbox, const Value& width) {
  if (width.is(Kind::kString)) return width.text();
  if (!width.is_integral()) {
    return InvalidArgument(
        StrCat("indent is a ", width.type_name(), ", expected an integer or a string"));
  }
  const int64_t num_spaces = std::max<int64_t>(width.as_integer(), 0);
  COMET_RETURN_IF_ERROR(sandbox.CheckTextBytes(num_spaces));
  return std::string(num_spaces, ' ');
}

Result<Value> Indent(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "indent", {"width", "first", "blank"}));
  COMET_ASSIGN_OR_RETURN(const std::string indent,
                         IndentOf(sandbox, bound.has(0) ? bound[0] : Value(kIndentWidth)));
  COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox, input));
  // Jinja appends a newline before cutting, so a trailing newline stays.
  const std::string lines_text = text.text() + "\n";
  const std::vector<std::string_view> lines = LinesOf(lines_text, false);
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.push_back('\n');
    const bool is_indented =
        i == 0 ? bound.Boolean(1, false) : !lines[i].empty() || bound.Boolean(2, false);
    if (is_indented) out += indent;
    out += lines[i];
    COMET_RETURN_IF_ERROR(sandbox.CheckTextBytes(static_cast<int64_t>(out.size())));
  }
  return sandbox.NewString(std::move(out));
}

Result<Value> ToJsonText(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(
      const Parameters bound,
      Parameters::Bind(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensures_ascii = bound.Boolean(0, false);
  style.sorts_keys = bound.Boolean(3, false);
  style.has_indent = bound.has(1) && !bound[1].is(Kind::kNone);
  if (style.has_indent) {
    COMET_ASSIGN_OR_RETURN(style.indent, IndentOf(sandbox, bound[1]));
    style.item_separator = std::string(1, ',');
  }
  if (bound.has(2) && !bound[2].is(Kind::kNone)) {
    const Value& pair = bound[2];
    const bool is_pair = pair.is(Kind::kList) && pair.list()->items.size() == 2 &&
                         pair.list()->items[0].is(Kind::kString) &&
                         pair.list()->items[1].is(Kind::kString);
    if (!is_pair) return InvalidArgument("tojson(): separators is not a pair of strings");
    style.item_separator = pair.list()->items[0].text();
    style.key_separator = pair.list()->items[1].text();
  }
  COMET_ASSIGN_OR_RETURN(std::string json, ToJson(sandbox, input, style));
  return sandbox.NewString(std::move(json));
}

Result<Value> WordCount(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "wordcount", {}).status());
  COMET_ASSIGN_OR_RETURN(const Value text, ToText(sandbox, input));
  COMET_RETURN_IF_ERROR(sandbox.Spend(static_cast<int64_t>(text.text().size()) / 16));
  return Value(static_cast<int64_t>(SplitAtSpaces(text.text(), -1, false).size()));
}

constexpr NamedFilter kFilters[] = {
    {"capitalize", MapText<Capitalize>},
    {"e", MapText<EscapeHtml>},
    {"escape", MapText<EscapeHtml>},
    {"indent", Indent},
    {"lower", MapText<ToLower>},
    {"replace", ReplaceText},
    {"safe", MapText<Unchanged>},
    {"string", MapText<Unchanged>},
    {"title", MapText<TitleWords>},
    {"tojson", ToJsonText},
    {"trim", Trim},
    {"upper", MapText<ToUpper>},
    {"wordcount", WordCount},
};

}  // namespace

Filter FindTextFilter(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const NamedFilter& named) { return named.name == name; });
  return it == std::end(kFilters) ? nullptr : it->filter;
}

}  // namespace comet::jinja
