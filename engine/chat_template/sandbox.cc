#include "engine/chat_template/sandbox.h"

#include <algorithm>

#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

constexpr int64_t kStepBytes = 256;

// What an object costs besides its content: allocator, reference counts, hash table.
constexpr int64_t kObjectBytes = 96;
constexpr int64_t kDictItemBytes = 160;

// Levels of the evaluator for each level that depth_max allows a template or value: a nested
// expression passes through several functions, and macros call each other.
constexpr int kNestingFactor = 8;

int DepthAbove(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

}  // namespace

Sandbox::Sandbox(const ChatTemplateLimits& limits, ChatTemplateClock clock)
    : limits_(limits), clock_(std::move(clock)), num_steps_left_(limits.steps_max) {}

Sandbox::~Sandbox() {
  namespaces_.clear();
  for (const std::shared_ptr<List>& list : appended_) list->items.clear();
}

Status Sandbox::Spend(int64_t num_steps) {
  num_steps_left_ -= num_steps;
  if (num_steps_left_ >= 0) return Status::Ok();
  num_steps_left_ = 0;
  return ResourceExhausted(StrCat("the template needs more than ", limits_.steps_max, " steps"));
}

Status Sandbox::SpendBytes(int64_t num_bytes) {
  num_partial_bytes_ += num_bytes;
  if (num_partial_bytes_ < kStepBytes) return Status::Ok();
  const int64_t num_steps = num_partial_bytes_ / kStepBytes;
  num_partial_bytes_ %= kStepBytes;
  return Spend(num_steps);
}

Status Sandbox::SpendKey(const Value& key) {
  return key.is(Kind::kString) ? SpendBytes(static_cast<int64_t>(key.text().size())) : Status::Ok();
}

Status Sandbox::CheckTextBytes(int64_t num_bytes) const {
  if (num_bytes <= limits_.output_bytes_max) return Status::Ok();
  return ResourceExhausted(StrCat("a string is longer than ", limits_.output_bytes_max, " bytes"));
}

Result<Value> Sandbox::NewString(std::string bytes) {
  const auto num_bytes = static_cast<int64_t>(bytes.size());
  COMET_RETURN_IF_ERROR(CheckTextBytes(num_bytes));
  COMET_RETURN_IF_ERROR(SpendBytes(num_bytes));
  COMET_RETURN_IF_ERROR(Reserve(kObjectBytes + num_bytes));
  return Value(
      std::shared_ptr<const Text>(new Text{{this, kObjectBytes + num_bytes}, std::move(bytes)}));
}

Result<Value> Sandbox::NewList(std::vector<Value> items, ListKind kind) {
  const int64_t num_bytes = kObjectBytes + static_cast<int64_t>(items.size() * sizeof(Value));
  const int depth = DepthAbove(items);
  COMET_RETURN_IF_ERROR(CheckDepth(depth));
  COMET_RETURN_IF_ERROR(SpendBytes(num_bytes));
  COMET_RETURN_IF_ERROR(Reserve(num_bytes));
  return Value(
      std::shared_ptr<List>(new List{{this, num_bytes}, std::move(items), kind, false, depth}));
}

Result<Value> Sandbox::NewDict(std::vector<std::pair<Value, Value>> items) {
  int64_t num_bytes = kObjectBytes + static_cast<int64_t>(items.size()) * kDictItemBytes;
  for (const auto& [key, value] : items) {
    if (key.is(Kind::kString)) num_bytes += static_cast<int64_t>(key.text().size());
  }
  COMET_RETURN_IF_ERROR(SpendBytes(num_bytes));
  COMET_RETURN_IF_ERROR(Reserve(num_bytes));
  std::shared_ptr<Dict> dict(new Dict{{this, num_bytes}, {}, {}, 1});
  dict->items.reserve(items.size());
  for (auto& [key, value] : items) {
    COMET_ASSIGN_OR_RETURN(std::string name, KeyOf(key));
    dict->depth = std::max(dict->depth, value.depth() + 1);
    const auto [it, is_new] = dict->index.try_emplace(std::move(name), dict->items.size());
    if (is_new) {
      dict->items.emplace_back(std::move(key), std::move(value));
    } else {
      dict->items[it->second].second = std::move(value);
    }
  }
  COMET_RETURN_IF_ERROR(CheckDepth(dict->depth));
  return Value(std::move(dict));
}

Result<Value> Sandbox::NewMethod(const Value& self, std::string_view name) {
  COMET_RETURN_IF_ERROR(CheckDepth(self.depth() + 1));
  Callable method;
  method.name = name;
  method.self = self;
  return Value(std::make_shared<const Callable>(std::move(method)));
}

Result<Namespace*> Sandbox::NewNamespace() {
  COMET_RETURN_IF_ERROR(Reserve(kObjectBytes));
  return &namespaces_.emplace_back();
}

Status Sandbox::Append(const std::shared_ptr<List>& list, Value item) {
  constexpr int64_t kItemBytes = 2 * sizeof(Value);  // A vector doubles.
  COMET_RETURN_IF_ERROR(Reserve(kItemBytes));
  list->tracked.AddBytes(kItemBytes);
  if (item.depth() > 0) {
    list->depth = std::max(list->depth, item.depth() + 1);
    COMET_RETURN_IF_ERROR(CheckDepth(list->depth));
    COMET_RETURN_IF_ERROR(Reserve(kObjectBytes));
    appended_.push_back(list);
  }
  list->items.push_back(std::move(item));
  return Status::Ok();
}

Status Sandbox::Nesting::status() const {
  if (sandbox_.num_nested_ <= kNestingFactor * sandbox_.limits_.depth_max) return Status::Ok();
  return ResourceExhausted("the template nests or recurses too deeply");
}

Status Sandbox::Reserve(int64_t num_bytes) {
  if (num_live_bytes_ + num_bytes > limits_.value_bytes_max) {
    return ResourceExhausted(
        StrCat("the template's values need more than ", limits_.value_bytes_max, " bytes"));
  }
  num_live_bytes_ += num_bytes;
  return Status::Ok();
}

Status Sandbox::CheckDepth(int depth) const {
  if (depth <= limits_.depth_max) return Status::Ok();
  return ResourceExhausted(StrCat("a value is nested more than ", limits_.depth_max, " deep"));
}

}  // namespace comet::jinja
