#include "engine/chat_template/methods.h"

#include <algorithm>
#include <span>

#include "engine/chat_template/comparisons.h"
#include "engine/chat_template/parameters.h"
#include "engine/chat_template/subscripts.h"
#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

Result<Value> DictItems(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "items", {}).status());
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->items) {
    COMET_ASSIGN_OR_RETURN(Value pair, sandbox.NewList({key, value}, ListKind::kTuple));
    items.push_back(std::move(pair));
  }
  return sandbox.NewList(std::move(items));
}

Result<Value> DictKeys(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "keys", {}).status());
  COMET_ASSIGN_OR_RETURN(std::shared_ptr<List> keys, Iterate(sandbox, self));
  return Value(std::move(keys));
}

Result<Value> DictValues(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "values", {}).status());
  std::vector<Value> values;
  for (const auto& [key, value] : self.dict()->items) values.push_back(value);
  return sandbox.NewList(std::move(values));
}

Result<Value> DictGet(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "get", {"key", "default"}, 1));
  if (bound[0].is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(bound[0].text().size())));
  }
  const Value* found = self.dict()->Find(bound[0]);
  if (found) return *found;
  return bound.has(1) ? bound[1] : Value::None();
}

Result<Value> DictCopy(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_RETURN_IF_ERROR(Parameters::Bind(arguments, "copy", {}).status());
  return sandbox.NewDict(self.dict()->items);
}

Result<Value> ListAppend(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "append", {"object"}, 1));
  COMET_RETURN_IF_ERROR(sandbox.Append(self.list(), bound[0]));
  return Value::None();
}

Result<Value> ListIndex(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "index", {"value"}, 1));
  const auto& items = self.list()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, items[i], bound[0]));
    if (is_equal) return Value(static_cast<int64_t>(i));
  }
  return InvalidArgument("index(): the value is not in the list");
}

Result<Value> ListCount(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(const Parameters bound,
                         Parameters::Bind(arguments, "count", {"value"}, 1));
  int64_t count = 0;
  for (const Value& item : self.list()->items) {
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, item, bound[0]));
    count += is_equal;
  }
  return Value(count);
}

Result<Value> LoopCycle(Sandbox&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty()) return InvalidArgument("no items for cycling given");
  const auto num_items = static_cast<int64_t>(arguments.positional.size());
  return arguments.positional[self.loop()->index0 % num_items];
}

Result<Value> LoopChanged(Sandbox& sandbox, const Value& self, const Arguments& arguments) {
  COMET_ASSIGN_OR_RETURN(Value value, sandbox.NewList(arguments.positional, ListKind::kTuple));
  Loop& loop = *self.loop();
  if (loop.has_changed) {
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, loop.last_changed, value));
    if (is_equal) return Value(false);
  }
  loop.last_changed = std::move(value);
  loop.has_changed = true;
  return Value(true);
}

constexpr Method kDictMethods[] = {
    {"copy", DictCopy}, {"get", DictGet},       {"items", DictItems},
    {"keys", DictKeys}, {"values", DictValues},
};
constexpr Method kListMethods[] = {
    {"append", ListAppend}, {"count", ListCount}, {"index", ListIndex}};
constexpr Method kTupleMethods[] = {{"count", ListCount}, {"index", ListIndex}};
constexpr Method kLoopMethods[] = {{"changed", LoopChanged}, {"cycle", LoopCycle}};

const Method* FindIn(std::span<const Method> methods, std::string_view name) {
  const auto it = std::find_if(methods.begin(), methods.end(),
                               [&](const Method& method) { return method.name == name; });
  return it == methods.end() ? nullptr : &*it;
}

const Method* FindMethod(const Value& self, std::string_view name) {
  switch (self.kind()) {
    case Kind::kString: return FindStringMethod(name);
    case Kind::kDict: return FindIn(kDictMethods, name);
    case Kind::kLoop: return FindIn(kLoopMethods, name);
    case Kind::kList:
      switch (self.list()->kind) {
        case ListKind::kList: return FindIn(kListMethods, name);
        case ListKind::kTuple: return FindIn(kTupleMethods, name);
        case ListKind::kGenerator: return nullptr;
      }
      return nullptr;
    case Kind::kUndefined:
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kNamespace:
    case Kind::kCallable: return nullptr;
  }
  return nullptr;
}

}  // namespace

bool HasMethod(const Value& self, std::string_view name) {
  return FindMethod(self, name) != nullptr;
}

Result<Value> CallMethod(Sandbox& sandbox, const Value& self, std::string_view name,
                         const Arguments& arguments) {
  const Method* method = FindMethod(self, name);
  COMET_CHECK(method != nullptr);  // A bound method exists.
  return method->call(sandbox, self, arguments);
}

}  // namespace comet::jinja
