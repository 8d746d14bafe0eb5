#include <algorithm>
#include <array>

#include "engine/chat_template/methods.h"
#include "engine/chat_template/parameters.h"
#include "engine/chat_template/python_text.h"
#include "engine/chat_template/string_functions.h"
#include "engine/chat_template/subscripts.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

// Parts are small objects, which cost more than their bytes.
Status SpendParts(Sandbox& sandbox, const Value& self) {
  return sandbox.Spend(static_cast<int64_t>(self.text().size()) / 16);
}

// Every method reads its string once or more.
Status SpendText(Sandbox& sandbox, const Value& self) {
  return sandbox.SpendBytes(static_cast<int64_t>(self.text().size()) + 1);
}

template <Ends kEnds>
Result<Value> StripEnds(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound, Parameters::Bind(arguments, "strip", {"chars"}));
  if (!bound.has(0) || bound[0].is(Kind::kNone)) {
    return sandbox.NewString(std::string(Strip(self.text(), kEnds)));
  }
  COMET_ASSIGN_OR_RETURN(const std::string chars, bound.String(0, ""));
  // Each character taken off is looked for among the others.
  const int64_t num_compared = static_cast<int64_t>(self.text().size() * chars.size() / 16);
  COMET_RETURN_IF_ERROR(sandbox.SpendBytes(num_compared));
  const std::string_view view = chars;
  return sandbox.NewString(std::string(Strip(self.text(), kEnds, &view)));
}

template <bool kFromRight>
Result<Value> Split(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "split", {"sep", "maxsplit"}));
  COMET_ASSIGN_OR_RETURN(const int64_t splits_max, bound.Integer(1, -1));
  COMET_RETURN_IF_ERROR(SpendParts(sandbox, self));
  std::vector<std::string_view> parts;
  std::string separator;
  if (!bound.has(0) || bound[0].is(Kind::kNone)) {
    parts = SplitAtSpaces(self.text(), splits_max, kFromRight);
  } else {
    COMET_ASSIGN_OR_RETURN(separator, bound.String(0, ""));
    if (separator.empty()) return InvalidArgument("empty separator");
    parts = SplitAt(self.text(), separator, splits_max, kFromRight);
  }
  return NewStrings(sandbox, parts);
}

Result<Value> SplitLines(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "splitlines", {"keepends"}));
  COMET_RETURN_IF_ERROR(SpendParts(sandbox, self));
  return NewStrings(sandbox, LinesOf(self.text(), bound.Boolean(0, false)));
}

template <bool kAtEnd>
Result<Value> HasAffix(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(SpendText(sandbox, self));
  const char* name = kAtEnd ? "endswith" : "startswith";
  COMET_ASSIGN_OR_RETURN(const Parameters bound, Parameters::Bind(arguments, name, {"affix"}, 1));
  std::vector<Value> affixes = {bound[0]};
  if (bound[0].is(Kind::kList) && bound[0].list()->kind == ListKind::kTuple) {
    affixes = bound[0].list()->items;
  }
  for (const Value& affix : affixes) {
    if (affix.is(Kind::kUndefined)) return InvalidArgument(affix.what());
    if (!affix.is(Kind::kString)) {
      return InvalidArgument(
          StrCat(name, "() takes a string or a tuple of strings, not ", affix.type_name()));
    }
    const std::string_view text = self.text();
    if (kAtEnd ? text.ends_with(affix.text()) : text.starts_with(affix.text())) return Value(true);
  }
  return Value(false);
}

template <bool kAtEnd>
Result<Value> RemoveAffix(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  const char* name = kAtEnd ? "removesuffix" : "removeprefix";
  COMET_ASSIGN_OR_RETURN(const Parameters bound, Parameters::Bind(arguments, name, {"affix"}, 1));
  COMET_ASSIGN_OR_RETURN(const std::string affix, bound.String(0, ""));
  std::string_view text = self.text();
  if (kAtEnd && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!kAtEnd && text.starts_with(affix)) text.remove_prefix(affix.size());
  return sandbox.NewString(std::string(text));
}

Result<Value> ReplaceAll(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "replace", {"old", "new", "count"}, 2));
  COMET_ASSIGN_OR_RETURN(const std::string from, bound.String(0, ""));
  COMET_ASSIGN_OR_RETURN(const std::string to, bound.String(1, ""));
  COMET_ASSIGN_OR_RETURN(const int64_t count_max, bound.Integer(2, -1));
  return Replace(sandbox, self.text(), from, to, count_max);
}

template <std::string (*kMap)(std::string_view)>
Result<Value> Map(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "the method", {}).status());
  return sandbox.NewString(kMap(self.text()));
}

template <bool (*kPredicate)(std::string_view)>
Result<Value> Test(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(SpendText(sandbox, self));
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "the method", {}).status());
  return Value(kPredicate(self.text()));
}

bool IsAllSpace(std::string_view text) { return !text.empty() && Strip(text, Ends::kLeft).empty(); }

Result<Value> JoinItems(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "join", {"iterable"}, 1));
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, bound[0]));
  for (const Value& item : items->items) {
    if (!item.is(Kind::kString)) {
      return InvalidArgument(
          StrCat("join(): an item is a ", item.type_name(), ", expected a string"));
    }
  }
  return Join(sandbox, items->items, self.text());
}

// Where the argument is, in code points; -1 when nowhere.
template <size_t (*kSearch)(std::string_view, std::string_view)>
Result<int64_t> Position(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(SpendText(sandbox, self));
  COMET_ASSIGN_OR_RETURN(const Parameters bound, Parameters::Bind(arguments, "find", {"sub"}, 1));
  COMET_ASSIGN_OR_RETURN(const std::string needle, bound.String(0, ""));
  const size_t pos = kSearch(self.text(), needle);
  if (pos == std::string_view::npos) return int64_t{-1};
  return NumCodePoints(std::string_view(self.text()).substr(0, pos));
}

size_t FindFirst(std::string_view text, std::string_view needle) { return Find(text, needle); }

template <size_t (*kSearch)(std::string_view, std::string_view)>
Result<Value> FindText(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const int64_t position, Position<kSearch>(sandbox, self, arguments));
  return Value(position);
}

Result<Value> IndexText(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const int64_t position, Position<FindFirst>(sandbox, self, arguments));
  if (position < 0) return InvalidArgument("substring not found");
  return Value(position);
}

Result<Value> CountText(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(SpendText(sandbox, self));
  COMET_ASSIGN_OR_RETURN(const Parameters bound, Parameters::Bind(arguments, "count", {"sub"}, 1));
  COMET_ASSIGN_OR_RETURN(const std::string needle, bound.String(0, ""));
  if (needle.empty()) return Value(NumCodePoints(self.text()) + 1);
  return Value(static_cast<int64_t>(SplitAt(self.text(), needle, -1, false).size()) - 1);
}

// str.format() with {}, {0} and {name}; format specifications are left out.
Result<Value> Format(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  std::string out;
  size_t next_positional = 0;
  const std::string_view text = self.text();
  for (size_t pos = 0; pos < text.size(); ++pos) {
    const bool is_doubled = pos + 1 < text.size() && text[pos + 1] == text[pos];
    if (text[pos] != '{' && text[pos] != '}') {
      out.push_back(text[pos]);
      continue;
    }
    if (is_doubled) {
      out.push_back(text[pos++]);
      continue;
    }
    const size_t end = text.find('}', pos);
    if (text[pos] == '}' || end == std::string_view::npos) {
      return InvalidArgument("format(): a single brace in the format string");
    }
    const std::string_view field = text.substr(pos + 1, end - pos - 1);
    COMET_ASSIGN_OR_RETURN(const Value value, FormatField(arguments, field, next_positional));
    COMET_ASSIGN_OR_RETURN(const Value field_text, ToText(sandbox, value));
    out += field_text.text();
    COMET_RETURN_IF_ERROR(sandbox.CheckTextBytes(static_cast<int64_t>(out.size())));
    pos = end;
  }
  return sandbox.NewString(std::move(out));
}

constexpr Method kStringMethods[] = {
    {"capitalize", Map<Capitalize>},
    {"count", CountText},
    {"endswith", HasAffix<true>},
    {"find", FindText<FindFirst>},
    {"format", Format},
    {"index", IndexText},
    {"isalnum", Test<IsAlphanumeric>},
    {"isalpha", Test<IsAlpha>},
    {"isdigit", Test<IsDigit>},
    {"islower", Test<IsLower>},
    {"isspace", Test<IsAllSpace>},
    {"isupper", Test<IsUpper>},
    {"join", JoinItems},
    {"lower", Map<ToLower>},
    {"lstrip", StripEnds<Ends::kLeft>},
    {"removeprefix", RemoveAffix<false>},
    {"removesuffix", RemoveAffix<true>},
    {"replace", ReplaceAll},
    {"rfind", FindText<FindLast>},
    {"rsplit", Split<true>},
    {"rstrip", StripEnds<Ends::kRight>},
    {"split", Split<false>},
    {"splitlines", SplitLines},
    {"startswith", HasAffix<false>},
    {"strip", StripEnds<Ends::kBoth>},
    {"title", Map<ToTitle>},
    {"upper", Map<ToUpper>},
};

}  // namespace

const Method* FindStringMethod(std::string_view name) {
  const auto* it = std::find_if(std::begin(kStringMethods), std::end(kStringMethods),
                                [&](const Method& method) { return method.name == name; });
  return it == std::end(kStringMethods) ? nullptr : it;
}

}  // namespace comet::jinja
