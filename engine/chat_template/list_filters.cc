#include <algorithm>
#include <charconv>

#include "engine/chat_template/comparisons.h"
#include "engine/chat_template/filters.h"
#include "engine/chat_template/methods.h"
#include "engine/chat_template/operators.h"
#include "engine/chat_template/parameters.h"
#include "engine/chat_template/string_functions.h"
#include "engine/chat_template/subscripts.h"
#include "engine/chat_template/type_tests.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

// What an `attribute` argument names: "a", "a.b", "a.0" or 0.
Result<Value> AttributeOf(Sandbox& sandbox, Value value, const Value& attribute) {
  if (attribute.is_integral()) return GetItem(sandbox, value, attribute);
  if (!attribute.is(Kind::kString)) {
    return InvalidArgument(
        StrCat("attribute is a ", attribute.type_name(), ", expected a string or an integer"));
  }
  for (const std::string_view part : SplitAt(attribute.text(), ".", -1, false)) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    const bool is_number = error == std::errc() && end == part.data() + part.size();
    Value key(number);
    if (!is_number) {
      COMET_ASSIGN_OR_RETURN(key, sandbox.NewString(std::string(part)));
    }
    COMET_ASSIGN_OR_RETURN(value, GetItem(sandbox, value, key));
  }
  return value;
}

Result<Value> LowerIfText(Sandbox& sandbox, Value value, bool is_case_sensitive) {
  if (is_case_sensitive || !value.is(Kind::kString)) return value;
  return sandbox.NewString(ToLower(value.text()));
}

// What items are ordered or told apart by: themselves or an attribute, strings in lower case unless
// case matters. Several attributes ("a,b") make a list.
Result<Value> SortKey(Sandbox& sandbox, const Value& item, const Value& attribute,
                      bool is_case_sensitive) {
  COMET_RETURN_IF_ERROR(sandbox.Spend(1));
  if (attribute.is(Kind::kUndefined) || attribute.is(Kind::kNone)) {
    return LowerIfText(sandbox, item, is_case_sensitive);
  }
  if (!attribute.is(Kind::kString)) return AttributeOf(sandbox, item, attribute);
  std::vector<Value> keys;
  for (const std::string_view name : SplitAt(attribute.text(), ",", -1, false)) {
    COMET_ASSIGN_OR_RETURN(const Value name_value, sandbox.NewString(std::string(name)));
    COMET_ASSIGN_OR_RETURN(Value key, AttributeOf(sandbox, item, name_value));
    COMET_ASSIGN_OR_RETURN(key, LowerIfText(sandbox, std::move(key), is_case_sensitive));
    keys.push_back(std::move(key));
  }
  if (keys.size() == 1) return keys[0];
  return sandbox.NewList(std::move(keys));
}

struct Keyed {
  Value key;
  Value item;
};

Result<std::vector<Keyed>> KeyedItems(Sandbox& sandbox, const Value& input, const Value& attribute,
                                      bool is_case_sensitive) {
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  std::vector<Keyed> keyed;
  for (const Value& item : items->items) {
    COMET_ASSIGN_OR_RETURN(Value key, SortKey(sandbox, item, attribute, is_case_sensitive));
    keyed.push_back({std::move(key), item});
  }
  return keyed;
}

// Stable in both directions, as sorted(reverse=...).
Status SortByKey(Sandbox& sandbox, std::vector<Keyed>& keyed, bool is_reversed) {
  Status failure;
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    if (!failure.ok()) return false;
    const Value& left = is_reversed ? b.key : a.key;
    const Value& right = is_reversed ? a.key : b.key;
    const Result<int> order = Order(sandbox, left, right, Operator::kLess);
    if (!order.ok()) failure = order.status();
    return order.ok() && *order < 0;
  });
  return failure;
}

Result<Value> ListOf(Sandbox& sandbox, std::vector<Keyed> keyed, ListKind kind) {
  std::vector<Value> items;
  for (Keyed& entry : keyed) items.push_back(std::move(entry.item));
  return sandbox.NewList(std::move(items), kind);
}

Result<Value> Sort(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(
      const Parameters bound,
      Parameters::Bind(arguments, "sort", {"reverse", "case_sensitive", "attribute"}));
  COMET_ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                         KeyedItems(sandbox, input, bound[2], bound.Boolean(1, false)));
  COMET_RETURN_IF_ERROR(SortByKey(sandbox, keyed, bound.Boolean(0, false)));
  return ListOf(sandbox, std::move(keyed), ListKind::kList);
}

Result<Value> DictSort(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(
      const Parameters bound,
      Parameters::Bind(arguments, "dictsort", {"case_sensitive", "by", "reverse"}));
  COMET_ASSIGN_OR_RETURN(const std::string by, bound.String(1, "key"));
  if (by != "key" && by != "value") {
    return InvalidArgument("You can only sort by either \"key\" or \"value\"");
  }
  if (!input.is(Kind::kDict)) return InvalidArgument("dictsort(): the value is not a mapping");
  COMET_ASSIGN_OR_RETURN(const Value pairs, CallMethod(sandbox, input, "items", {}));
  COMET_ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                         KeyedItems(sandbox, pairs, Value(int64_t{by == "key" ? 0 : 1}), true));
  for (Keyed& entry : keyed) {
    COMET_ASSIGN_OR_RETURN(entry.key, LowerIfText(sandbox, entry.key, bound.Boolean(0, false)));
  }
  COMET_RETURN_IF_ERROR(SortByKey(sandbox, keyed, bound.Boolean(2, false)));
  return ListOf(sandbox, std::move(keyed), ListKind::kList);
}

Result<Value> Unique(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "unique", {"case_sensitive", "attribute"}));
  COMET_ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                         KeyedItems(sandbox, input, bound[1], bound.Boolean(0, false)));
  std::vector<Keyed> first;
  for (const Keyed& candidate : keyed) {
    bool is_new = true;
    for (const Keyed& seen : first) {
      COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, seen.key, candidate.key));
      is_new = is_new && !is_equal;
    }
    if (is_new) first.push_back(candidate);
  }
  return ListOf(sandbox, std::move(first), ListKind::kGenerator);
}

template <bool kIsMax>
Result<Value> Extreme(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "min", {"case_sensitive", "attribute"}));
  COMET_ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                         KeyedItems(sandbox, input, bound[1], bound.Boolean(0, false)));
  if (keyed.empty()) return Value::Undefined("No aggregated item, sequence was empty.");
  const Keyed* best = &keyed[0];
  for (const Keyed& candidate : keyed) {
    COMET_ASSIGN_OR_RETURN(const int order,
                           Order(sandbox, candidate.key, best->key, Operator::kLess));
    if (kIsMax ? order > 0 : order < 0) best = &candidate;
  }
  return best->item;
}

Result<Value> Sum(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "sum", {"attribute", "start"}));
  COMET_ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                         KeyedItems(sandbox, input, bound[0], true));
  Value sum = bound.has(1) ? bound[1] : Value(int64_t{0});
  for (const Keyed& entry : keyed) {
    COMET_ASSIGN_OR_RETURN(sum, Arithmetic(sandbox, Operator::kAdd, sum, entry.key));
  }
  return sum;
}

Result<Value> JoinItems(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "join", {"d", "attribute"}));
  COMET_ASSIGN_OR_RETURN(const std::string separator, bound.String(0, ""));
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  if (!bound.has(1)) return Join(sandbox, items->items, separator);
  std::vector<Value> attributes;
  for (const Value& item : items->items) {
    COMET_ASSIGN_OR_RETURN(Value attribute, AttributeOf(sandbox, item, bound[1]));
    attributes.push_back(std::move(attribute));
  }
  return Join(sandbox, attributes, separator);
}

Result<Value> First(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "first", {}).status());
  if (input.is(Kind::kString) && !input.text().empty()) {
    return GetItem(sandbox, input, Value(int64_t{0}));
  }
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  if (items->items.empty()) return Value::Undefined("No first item, sequence was empty.");
  return items->items.front();
}

Result<Value> Last(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "last", {}).status());
  if (input.is(Kind::kString) && !input.text().empty()) {
    return GetItem(sandbox, input, Value(int64_t{-1}));
  }
  if (input.is(Kind::kList) && input.list()->kind == ListKind::kGenerator) {
    return InvalidArgument("'generator' object is not reversible");
  }
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  if (items->items.empty()) return Value::Undefined("No last item, sequence was empty.");
  return items->items.back();
}

Result<Value> CountItems(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "length", {}).status());
  COMET_ASSIGN_OR_RETURN(const int64_t length, Length(sandbox, input));
  return Value(length);
}

Result<Value> ToList(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "list", {}).status());
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  return sandbox.NewList(items->items);
}

Result<Value> Items(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "items", {}).status());
  if (input.is(Kind::kUndefined)) return sandbox.NewList({}, ListKind::kGenerator);
  if (!input.is(Kind::kDict)) return InvalidArgument("Can only get item pairs from a mapping.");
  COMET_ASSIGN_OR_RETURN(const Value pairs, CallMethod(sandbox, input, "items", {}));
  return sandbox.NewList(pairs.list()->items, ListKind::kGenerator);
}

Result<Value> Reverse(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "reverse", {}).status());
  if (input.is(Kind::kString)) return Slice(sandbox, input, {}, {}, Value(int64_t{-1}));
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  return sandbox.NewList({items->items.rbegin(), items->items.rend()}, ListKind::kGenerator);
}

Result<Value> Batch(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "batch", {"linecount", "fill_with"}, 1));
  COMET_ASSIGN_OR_RETURN(const int64_t size, bound.Integer(0, 1));
  if (size < 1) return InvalidArgument("batch(): linecount is below 1");
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  std::vector<Value> batches;
  const auto num_items = static_cast<int64_t>(items->items.size());
  for (int64_t begin = 0; begin < num_items; begin += size) {
    const int64_t end = std::min(begin + size, num_items);
    std::vector<Value> batch(items->items.begin() + begin, items->items.begin() + end);
    if (bound.has(1) && end - begin < size) {
      COMET_RETURN_IF_ERROR(sandbox.Spend(size));
      batch.resize(size, bound[1]);
    }
    COMET_ASSIGN_OR_RETURN(Value batch_value, sandbox.NewList(std::move(batch)));
    batches.push_back(std::move(batch_value));
    if (end == num_items) break;
  }
  return sandbox.NewList(std::move(batches), ListKind::kGenerator);
}

// The arguments without the first num_dropped positional ones.
Arguments Rest(const Arguments& arguments, size_t num_dropped) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(num_dropped));
  return rest;
}

Result<Value> MapAttribute(Sandbox& sandbox, const List& items, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "map", {"attribute", "default"}, 1));
  std::vector<Value> mapped;
  for (const Value& item : items.items) {
    COMET_RETURN_IF_ERROR(sandbox.Spend(1));
    COMET_ASSIGN_OR_RETURN(Value value, AttributeOf(sandbox, item, bound[0]));
    const bool is_replaced = value.is(Kind::kUndefined) && bound.has(1);
    mapped.push_back(is_replaced ? bound[1] : std::move(value));
  }
  return sandbox.NewList(std::move(mapped), ListKind::kGenerator);
}

Result<Value> Map(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  const Sandbox::Nesting nesting(sandbox);  // map('map', 'map', ...)
  COMET_RETURN_IF_ERROR(nesting.status());
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  if (arguments.positional.empty()) return MapAttribute(sandbox, *items, arguments);
  const Value& name = arguments.positional[0];
  const Filter filter = name.is(Kind::kString) ? FindFilter(name.text()) : nullptr;
  if (!filter) return InvalidArgument("map(): the first argument is not the name of a filter");
  const Arguments rest = Rest(arguments, 1);
  std::vector<Value> mapped;
  for (const Value& item : items->items) {
    COMET_RETURN_IF_ERROR(sandbox.Spend(1));
    COMET_ASSIGN_OR_RETURN(Value value, filter(sandbox, item, rest));
    mapped.push_back(std::move(value));
  }
  return sandbox.NewList(std::move(mapped), ListKind::kGenerator);
}

// select, reject, selectattr, rejectattr.
template <bool kByAttribute, bool kWanted>
Result<Value> Select(Sandbox& sandbox, const Value& input, const Arguments& arguments) {
  constexpr size_t kTestIdx = kByAttribute ? 1 : 0;
  const auto& positional = arguments.positional;
  if (positional.size() < kTestIdx) return InvalidArgument("Missing parameter for attribute name");
  TypeTest test = nullptr;
  if (positional.size() > kTestIdx) {
    const Value& name = positional[kTestIdx];
    test = name.is(Kind::kString) ? FindTypeTest(name.text()) : nullptr;
    if (!test) return InvalidArgument("select(): an argument is not the name of a test");
  }
  const Arguments rest = Rest(arguments, std::min(positional.size(), kTestIdx + 1));
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, input));
  std::vector<Value> selected;
  for (const Value& item : items->items) {
    COMET_RETURN_IF_ERROR(sandbox.Spend(1));
    Value tested = item;
    if constexpr (kByAttribute) {
      COMET_ASSIGN_OR_RETURN(tested, AttributeOf(sandbox, item, positional[0]));
    }
    COMET_ASSIGN_OR_RETURN(const bool is_true,
                           test ? test(sandbox, tested, rest) : Result<bool>(tested.is_true()));
    if (is_true == kWanted) selected.push_back(item);
  }
  return sandbox.NewList(std::move(selected), ListKind::kGenerator);
}

constexpr NamedFilter kFilters[] = {
    {"batch", Batch},
    {"count", CountItems},
    {"dictsort", DictSort},
    {"first", First},
    {"items", Items},
    {"join", JoinItems},
    {"last", Last},
    {"length", CountItems},
    {"list", ToList},
    {"map", Map},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"reject", Select<false, false>},
    {"rejectattr", Select<true, false>},
    {"reverse", Reverse},
    {"select", Select<false, true>},
    {"selectattr", Select<true, true>},
    {"sort", Sort},
    {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

Filter FindListFilter(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const NamedFilter& named) { return named.name == name; });
  return it == std::end(kFilters) ? nullptr : it->filter;
}

}  // namespace comet::jinja
