#include "engine/chat_template/value.h"

#include <algorithm>
#include <cmath>

#include "engine/chat_template/sandbox.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

constexpr size_t kWhatBytesMax = 256;

}  // namespace

Value Value::None() {
  Value value;
  value.state_ = NoneState{};
  return value;
}

Value Value::Undefined(std::string what) {
  // The message may quote any key.
  if (what.size() > kWhatBytesMax) {
    size_t end = kWhatBytesMax;
    while (end > 0 && (static_cast<uint8_t>(what[end]) & 0xC0) == 0x80) --end;
    what.resize(end);
    what += "...";
  }
  Value value;
  value.state_ = UndefinedState{std::make_shared<const std::string>(std::move(what))};
  return value;
}

Value Value::Constant(std::string text) {
  return Value(std::shared_ptr<const Text>(new Text{{nullptr, 0}, std::move(text)}));
}

const std::string& Value::text() const {
  return std::get<std::shared_ptr<const Text>>(state_)->bytes;
}

std::string Value::what() const {
  const auto& what = std::get<UndefinedState>(state_).what;
  return what ? *what : "the value is undefined";
}

bool Value::is_sequence() const {
  return is(Kind::kString) || (is(Kind::kList) && list()->kind != ListKind::kGenerator);
}

bool Value::is_true() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool: return boolean();
    case Kind::kInt: return integer() != 0;
    case Kind::kFloat: return real() != 0;
    case Kind::kString: return !text().empty();
    case Kind::kList: return list()->kind == ListKind::kGenerator || !list()->items.empty();
    case Kind::kDict: return !dict()->items.empty();
    case Kind::kNamespace:
    case Kind::kLoop:
    case Kind::kCallable: return true;
  }
  return false;
}

std::string_view Value::type_name() const {
  switch (kind()) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return "str";
    case Kind::kList:
      switch (list()->kind) {
        case ListKind::kList: return "list";
        case ListKind::kTuple: return "tuple";
        case ListKind::kGenerator: return "generator";
      }
      return "list";
    case Kind::kDict: return "dict";
    case Kind::kNamespace: return "Namespace";
    case Kind::kLoop: return "LoopContext";
    case Kind::kCallable: return callable().macro ? "Macro" : "builtin_function_or_method";
  }
  return "";
}

int Value::depth() const {
  switch (kind()) {
    case Kind::kList: return list()->depth;
    case Kind::kDict: return dict()->depth;
    case Kind::kLoop: return loop()->items->depth + 1;
    case Kind::kCallable: return callable().self.depth() + 1;
    case Kind::kUndefined:
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kString:
    case Kind::kNamespace: return 0;
  }
  return 0;
}

Tracked::~Tracked() {
  if (sandbox_) sandbox_->Release(num_bytes_);
}

Result<std::string> KeyOf(const Value& key) {
  if (key.is(Kind::kString)) return "s" + key.text();
  if (key.is_integral()) return StrCat("n", key.as_integer());
  if (key.is(Kind::kNone)) return std::string("0");
  if (key.is(Kind::kFloat)) {
    const double real = key.real();
    const bool is_whole = std::abs(real) < 9e15 && real == std::floor(real);
    if (is_whole) return StrCat("n", static_cast<int64_t>(real));
    return "f" + std::string(reinterpret_cast<const char*>(&real), sizeof(real));
  }
  return InvalidArgument(StrCat("a dict key is a ", key.type_name(),
                                ", expected a string, a number, a boolean or none"));
}

const Value* Dict::Find(const Value& key) const {
  const Result<std::string> name = KeyOf(key);
  if (!name.ok()) return nullptr;
  const auto it = index.find(*name);
  return it == index.end() ? nullptr : &items[it->second].second;
}

const Value* Dict::Find(std::string_view key) const {
  std::string name = "s";
  name += key;
  const auto it = index.find(name);
  return it == index.end() ? nullptr : &items[it->second].second;
}

const Value* Namespace::Find(std::string_view name) const {
  const auto it = std::find_if(attributes.begin(), attributes.end(),
                               [&](const auto& attribute) { return attribute.first == name; });
  return it == attributes.end() ? nullptr : &it->second;
}

void Namespace::Set(std::string_view name, Value value) {
  if (const Value* found = Find(name)) {
    *const_cast<Value*>(found) = std::move(value);
  } else {
    attributes.emplace_back(name, std::move(value));
  }
}

}  // namespace comet::jinja
