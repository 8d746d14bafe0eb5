#include "engine/chat_template/operators.h"

#include <algorithm>
#include <cmath>

#include "engine/chat_template/methods.h"
#include "engine/chat_template/python_text.h"
#include "engine/chat_template/unicode_text.h"
#include "kernels/base/str_cat.h"

namespace comet::jinja {
namespace {

Status Overflow() { return InvalidArgument("the result does not fit a 64-bit integer"); }

Status BadOperands(Operator op, const Value& left, const Value& right) {
  if (left.is(Kind::kUndefined)) return InvalidArgument(left.what());
  if (right.is(Kind::kUndefined)) return InvalidArgument(right.what());
  return InvalidArgument(StrCat("unsupported operand type(s) for ", ToString(op), ": '",
                                left.type_name(), "' and '", right.type_name(), "'"));
}

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Result<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  // Only these survive 63 multiplications.
  if (base == 0 || base == 1) return Value(exponent == 0 ? int64_t{1} : base);
  if (base == -1) return Value(exponent % 2 == 0 ? int64_t{1} : int64_t{-1});
  int64_t power = 1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(power, base, &power)) return Overflow();
  }
  return Value(power);
}

Result<Value> IntegerArithmetic(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && b == 0) return InvalidArgument("division by zero");
  if (op == Operator::kFloorDivide && b == -1) op = Operator::kMultiply;  // INT64_MIN / -1 traps.
  if (op == Operator::kModulo && b == -1) return Value(int64_t{0});
  switch (op) {
    case Operator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return Overflow();
      return Value(result);
    case Operator::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) return Overflow();
      return Value(result);
    case Operator::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) return Overflow();
      return Value(result);
    case Operator::kDivide: return Value(static_cast<double>(a) / static_cast<double>(b));
    case Operator::kFloorDivide: return Value(FloorDivide(a, b));
    case Operator::kModulo: return Value(a - FloorDivide(a, b) * b);
    case Operator::kPower: return IntegerPower(a, b);
    default: return Overflow();
  }
}

Result<Value> RealArithmetic(Operator op, double a, double b) {
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && b == 0) return InvalidArgument("float division by zero");
  switch (op) {
    case Operator::kAdd: return Value(a + b);
    case Operator::kSubtract: return Value(a - b);
    case Operator::kMultiply: return Value(a * b);
    case Operator::kDivide: return Value(a / b);
    case Operator::kFloorDivide: return Value(std::floor(a / b));
    case Operator::kModulo: return Value(a - std::floor(a / b) * b);
    case Operator::kPower: return Value(std::pow(a, b));
    default: return Overflow();
  }
}

// Strings joined, lists joined; Python has its own message for each mismatch.
Result<Value> Concatenate(Sandbox& sandbox, const Value& left, const Value& right) {
  if (right.is(Kind::kUndefined)) return InvalidArgument(right.what());
  if (left.type_name() != right.type_name()) {
    return InvalidArgument(StrCat("can only concatenate ", left.type_name(), " (not \"",
                                  right.type_name(), "\") to ", left.type_name()));
  }
  if (left.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(
        sandbox.CheckTextBytes(static_cast<int64_t>(left.text().size() + right.text().size())));
    return sandbox.NewString(left.text() + right.text());
  }
  std::vector<Value> items = left.list()->items;
  items.insert(items.end(), right.list()->items.begin(), right.list()->items.end());
  return sandbox.NewList(std::move(items), left.list()->kind);
}

Result<Value> Repeat(Sandbox& sandbox, const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const bool is_string = value.is(Kind::kString);
  const auto size =
      static_cast<int64_t>(is_string ? value.text().size() : value.list()->items.size());
  int64_t total = 0;
  if (__builtin_mul_overflow(size, count, &total)) total = INT64_MAX;
  if (is_string) {
    COMET_RETURN_IF_ERROR(sandbox.CheckTextBytes(total));
    std::string text;
    text.reserve(total);
    for (int64_t i = 0; i < count && size > 0; ++i) text += value.text();
    return sandbox.NewString(std::move(text));
  }
  COMET_RETURN_IF_ERROR(sandbox.Spend(total));
  std::vector<Value> items;
  for (int64_t i = 0; i < count && size > 0; ++i) {
    items.insert(items.end(), value.list()->items.begin(), value.list()->items.end());
  }
  return sandbox.NewList(std::move(items), value.list()->kind);
}

bool IsSequence(const Value& value) {
  return value.is(Kind::kString) ||
         (value.is(Kind::kList) && value.list()->kind != ListKind::kGenerator);
}

// A look-up hashes its key.
Status SpendKey(Sandbox& sandbox, const Value& key) {
  return key.is(Kind::kString) ? sandbox.SpendBytes(static_cast<int64_t>(key.text().size()))
                               : Status::Ok();
}

int Sign(double difference) { return difference < 0 ? -1 : (difference > 0 ? 1 : 0); }

int OrderNumbers(const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    const int64_t a = left.as_integer();
    const int64_t b = right.as_integer();
    return a < b ? -1 : (a > b ? 1 : 0);
  }
  const double a = left.as_real();
  const double b = right.as_real();
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) - std::isnan(b);
  return a < b ? -1 : (a > b ? 1 : 0);
}

Result<bool> EqualItems(Sandbox& sandbox, const std::vector<Value>& left,
                        const std::vector<Value>& right) {
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, left[i], right[i]));
    if (!is_equal) return false;
  }
  return true;
}

Result<bool> EqualDicts(Sandbox& sandbox, const Dict& left, const Dict& right) {
  if (left.items.size() != right.items.size()) return false;
  for (const auto& [key, value] : left.items) {
    COMET_RETURN_IF_ERROR(SpendKey(sandbox, key));
    const Value* other = right.Find(key);
    if (!other) return false;
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, value, *other));
    if (!is_equal) return false;
  }
  return true;
}

std::optional<int64_t> NormalIndex(int64_t index, int64_t size) {
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  return index;
}

Result<Value> ItemAt(Sandbox& sandbox, const Value& object, int64_t index) {
  const Value missing =
      Value::Undefined(StrCat(object.type_name(), " object has no element ", index));
  if (object.is(Kind::kList)) {
    const auto& items = object.list()->items;
    const auto normal = NormalIndex(index, static_cast<int64_t>(items.size()));
    return normal ? items[*normal] : missing;
  }
  const std::string& text = object.text();
  COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(text.size())));
  const auto normal = NormalIndex(index, NumCodePoints(text));
  if (!normal) return missing;
  const size_t pos = ByteOffset(text, *normal);
  return sandbox.NewString(text.substr(pos, CodePointBytes(text, pos)));
}

Value LoopAttribute(const Loop& loop, std::string_view name) {
  const auto length = static_cast<int64_t>(loop.items->items.size());
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "index0") return Value(loop.index0);
  if (name == "revindex") return Value(length - loop.index0);
  if (name == "revindex0") return Value(length - loop.index0 - 1);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "last") return Value(loop.index0 == length - 1);
  if (name == "length") return Value(length);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  const int64_t step = name == "previtem" ? -1 : (name == "nextitem" ? 1 : 0);
  const int64_t neighbour = loop.index0 + step;
  if (step != 0 && neighbour >= 0 && neighbour < length) return loop.items->items[neighbour];
  return Value::Undefined(StrCat("there is no ", name, " in this loop"));
}

std::string MissingAttribute(const Value& object, std::string_view name) {
  return StrCat("'", object.type_name(), object.is(Kind::kDict) ? " object" : "",
                "' has no attribute '", name, "'");
}

// What Python's slice.indices() computes.
struct SliceBounds {
  int64_t start;
  int64_t step;
  int64_t count;
};

Result<int64_t> BoundOf(const Value& bound, int64_t absent, int64_t min, int64_t max,
                        int64_t size) {
  if (bound.is(Kind::kUndefined) || bound.is(Kind::kNone)) return absent;
  if (!bound.is_integral()) {
    return InvalidArgument("slice indices must be integers or None");
  }
  int64_t value = bound.as_integer();
  if (value < 0) value += size;
  return std::clamp(value, min, max);
}

Result<SliceBounds> BoundsOf(const Value& start, const Value& stop, const Value& step,
                             int64_t size) {
  COMET_ASSIGN_OR_RETURN(const int64_t stride, BoundOf(step, 1, INT64_MIN, INT64_MAX, 0));
  if (stride == 0) return InvalidArgument("slice step cannot be zero");
  const bool is_forward = stride > 0;
  const int64_t min = is_forward ? 0 : -1;
  const int64_t max = is_forward ? size : size - 1;
  COMET_ASSIGN_OR_RETURN(const int64_t first,
                         BoundOf(start, is_forward ? min : max, min, max, size));
  COMET_ASSIGN_OR_RETURN(const int64_t last, BoundOf(stop, is_forward ? max : min, min, max, size));
  const int64_t span = is_forward ? last - first : first - last;
  // A stride beyond the size reaches one element at most.
  const int64_t width =
      std::min(stride < 0 ? (stride < -size ? size + 1 : -stride) : stride, size + 1);
  return SliceBounds{first, is_forward ? width : -width, span <= 0 ? 0 : (span - 1) / width + 1};
}

Result<Value> SliceText(Sandbox& sandbox, const std::string& text, const SliceBounds& bounds) {
  if (bounds.step == 1) {
    const size_t begin = ByteOffset(text, bounds.start);
    const size_t num_bytes = ByteOffset(std::string_view(text).substr(begin), bounds.count);
    return sandbox.NewString(text.substr(begin, num_bytes));
  }
  std::vector<uint32_t> offsets;
  for (size_t pos = 0; pos < text.size(); pos += CodePointBytes(text, pos)) {
    offsets.push_back(static_cast<uint32_t>(pos));
  }
  std::string taken;
  for (int64_t i = 0; i < bounds.count; ++i) {
    const size_t pos = offsets[bounds.start + i * bounds.step];
    taken += text.substr(pos, CodePointBytes(text, pos));
  }
  return sandbox.NewString(std::move(taken));
}

}  // namespace

std::string_view ToString(Operator op) {
  switch (op) {
    case Operator::kAdd: return "+";
    case Operator::kSubtract: return "-";
    case Operator::kMultiply: return "*";
    case Operator::kDivide: return "/";
    case Operator::kFloorDivide: return "//";
    case Operator::kModulo: return "%";
    case Operator::kPower: return "**";
    case Operator::kEqual: return "==";
    case Operator::kNotEqual: return "!=";
    case Operator::kLess: return "<";
    case Operator::kLessOrEqual: return "<=";
    case Operator::kGreater: return ">";
    case Operator::kGreaterOrEqual: return ">=";
    case Operator::kIn: return "in";
    case Operator::kNotIn: return "not in";
  }
  return "";
}

Result<Value> Arithmetic(Sandbox& sandbox, Operator op, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    return IntegerArithmetic(op, left.as_integer(), right.as_integer());
  }
  if (left.is_number() && right.is_number()) {
    return RealArithmetic(op, left.as_real(), right.as_real());
  }
  if (op == Operator::kAdd && IsSequence(left)) return Concatenate(sandbox, left, right);
  if (op == Operator::kMultiply && IsSequence(left) && right.is_integral()) {
    return Repeat(sandbox, left, right.as_integer());
  }
  if (op == Operator::kMultiply && IsSequence(right) && left.is_integral()) {
    return Repeat(sandbox, right, left.as_integer());
  }
  if (op == Operator::kModulo && left.is(Kind::kString)) {
    return Unimplemented("formatting strings with % is not supported; use ~ or format()");
  }
  return BadOperands(op, left, right);
}

Result<bool> Compare(Sandbox& sandbox, Operator op, const Value& left, const Value& right) {
  switch (op) {
    case Operator::kEqual: return Equal(sandbox, left, right);
    case Operator::kNotEqual: {
      COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, left, right));
      return !is_equal;
    }
    case Operator::kIn: return Contains(sandbox, right, left);
    case Operator::kNotIn: {
      COMET_ASSIGN_OR_RETURN(const bool contains, Contains(sandbox, right, left));
      return !contains;
    }
    default: break;
  }
  COMET_ASSIGN_OR_RETURN(const int order, Order(sandbox, left, right, op));
  switch (op) {
    case Operator::kLess: return order < 0;
    case Operator::kLessOrEqual: return order <= 0;
    case Operator::kGreater: return order > 0;
    default: return order >= 0;
  }
}

Result<bool> Equal(Sandbox& sandbox, const Value& left, const Value& right) {
  const Sandbox::Nesting nesting(sandbox);
  COMET_RETURN_IF_ERROR(nesting.status());
  COMET_RETURN_IF_ERROR(sandbox.Spend(1));
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_integer() == right.as_integer();
    return left.as_real() == right.as_real();
  }
  if (left.kind() != right.kind()) return false;
  if (left.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(left.text().size())));
    return left.text() == right.text();
  }
  if (left.is(Kind::kList) && left.list()->kind == right.list()->kind && IsSequence(left)) {
    return EqualItems(sandbox, left.list()->items, right.list()->items);
  }
  if (left.is(Kind::kDict)) return EqualDicts(sandbox, *left.dict(), *right.dict());
  return left.is_same(right);
}

Result<int> Order(Sandbox& sandbox, const Value& left, const Value& right, Operator op) {
  const Sandbox::Nesting nesting(sandbox);
  COMET_RETURN_IF_ERROR(nesting.status());
  COMET_RETURN_IF_ERROR(sandbox.Spend(1));
  if (left.is_number() && right.is_number()) return OrderNumbers(left, right);
  if (left.is(Kind::kString) && right.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(left.text().size())));
    // The order of UTF-8 bytes is that of code points.
    return Sign(left.text().compare(right.text()));
  }
  if (left.is(Kind::kList) && right.is(Kind::kList) && IsSequence(left) && IsSequence(right)) {
    const auto& a = left.list()->items;
    const auto& b = right.list()->items;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, a[i], b[i]));
      if (!is_equal) return Order(sandbox, a[i], b[i], op);
    }
    return a.size() < b.size() ? -1 : (a.size() > b.size() ? 1 : 0);
  }
  if (left.is(Kind::kUndefined)) return InvalidArgument(left.what());
  if (right.is(Kind::kUndefined)) return InvalidArgument(right.what());
  return InvalidArgument(StrCat("'", ToString(op), "' not supported between instances of '",
                                left.type_name(), "' and '", right.type_name(), "'"));
}

Result<bool> Contains(Sandbox& sandbox, const Value& container, const Value& item) {
  if (container.is(Kind::kString)) {
    if (!item.is(Kind::kString)) {
      return InvalidArgument(
          StrCat("'in <string>' requires string as left operand, not ", item.type_name()));
    }
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(container.text().size())));
    return Find(container.text(), item.text()) != std::string_view::npos;
  }
  if (container.is(Kind::kDict)) {
    COMET_RETURN_IF_ERROR(SpendKey(sandbox, item));
    return container.dict()->Find(item) != nullptr;
  }
  if (!container.is(Kind::kList) && !container.is(Kind::kUndefined)) {
    return InvalidArgument(
        StrCat("argument of type '", container.type_name(), "' is not iterable"));
  }
  COMET_ASSIGN_OR_RETURN(const std::shared_ptr<List> items, Iterate(sandbox, container));
  for (const Value& candidate : items->items) {
    COMET_ASSIGN_OR_RETURN(const bool is_equal, Equal(sandbox, candidate, item));
    if (is_equal) return true;
  }
  return false;
}

Result<Value> GetAttribute(Sandbox& sandbox, const Value& object, std::string_view name) {
  if (object.is(Kind::kUndefined)) return InvalidArgument(object.what());
  if (HasMethod(object, name)) return sandbox.NewMethod(object, name);
  const Value* found = nullptr;
  if (object.is(Kind::kDict)) found = object.dict()->Find(name);
  if (object.is(Kind::kNamespace)) {
    COMET_RETURN_IF_ERROR(
        sandbox.Spend(static_cast<int64_t>(object.name_space()->attributes.size()) / 64));
    found = object.name_space()->Find(name);
  }
  if (object.is(Kind::kLoop)) return LoopAttribute(*object.loop(), name);
  return found ? *found : Value::Undefined(MissingAttribute(object, name));
}

Result<Value> GetItem(Sandbox& sandbox, const Value& object, const Value& index) {
  if (object.is(Kind::kUndefined)) return InvalidArgument(object.what());
  COMET_RETURN_IF_ERROR(SpendKey(sandbox, index));
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.dict()->Find(index)) return *found;
  }
  if (IsSequence(object) && index.is_integral()) {
    return ItemAt(sandbox, object, index.as_integer());
  }
  if (index.is(Kind::kString)) return GetAttribute(sandbox, object, index.text());
  COMET_ASSIGN_OR_RETURN(const std::string index_text, ToRepr(sandbox, index));
  return Value::Undefined(StrCat(object.type_name(), " object has no element ", index_text));
}

Result<Value> Slice(Sandbox& sandbox, const Value& object, const Value& start, const Value& stop,
                    const Value& step) {
  if (object.is(Kind::kUndefined)) return InvalidArgument(object.what());
  if (!IsSequence(object)) {
    return Value::Undefined(StrCat("'", object.type_name(), "' object is not subscriptable"));
  }
  COMET_ASSIGN_OR_RETURN(const int64_t size, Length(sandbox, object));
  COMET_ASSIGN_OR_RETURN(const SliceBounds bounds, BoundsOf(start, stop, step, size));
  if (object.is(Kind::kString)) return SliceText(sandbox, object.text(), bounds);
  std::vector<Value> items;
  items.reserve(bounds.count);
  for (int64_t i = 0; i < bounds.count; ++i) {
    items.push_back(object.list()->items[bounds.start + i * bounds.step]);
  }
  return sandbox.NewList(std::move(items), object.list()->kind);
}

Result<int64_t> Length(Sandbox& sandbox, const Value& value) {
  if (value.is(Kind::kUndefined)) return int64_t{0};
  if (value.is(Kind::kString)) {
    COMET_RETURN_IF_ERROR(sandbox.SpendBytes(static_cast<int64_t>(value.text().size())));
    return NumCodePoints(value.text());
  }
  if (IsSequence(value)) return static_cast<int64_t>(value.list()->items.size());
  if (value.is(Kind::kDict)) return static_cast<int64_t>(value.dict()->items.size());
  return InvalidArgument(StrCat("object of type '", value.type_name(), "' has no len()"));
}

Result<std::shared_ptr<List>> Iterate(Sandbox& sandbox, const Value& value) {
  if (value.is(Kind::kList)) {
    List& list = *value.list();
    if (list.kind != ListKind::kGenerator || !std::exchange(list.is_consumed, true)) {
      return value.list();
    }
  }
  std::vector<Value> items;
  if (value.is(Kind::kDict)) {
    for (const auto& [key, unused] : value.dict()->items) items.push_back(key);
  } else if (value.is(Kind::kString)) {
    const std::string& text = value.text();
    COMET_RETURN_IF_ERROR(sandbox.Spend(static_cast<int64_t>(text.size())));
    for (size_t pos = 0; pos < text.size();) {
      const size_t num_bytes = CodePointBytes(text, pos);
      COMET_ASSIGN_OR_RETURN(Value character, sandbox.NewString(text.substr(pos, num_bytes)));
      items.push_back(std::move(character));
      pos += num_bytes;
    }
  } else if (!value.is(Kind::kUndefined) && !value.is(Kind::kList)) {
    return InvalidArgument(StrCat("'", value.type_name(), "' object is not iterable"));
  }
  COMET_ASSIGN_OR_RETURN(const Value list, sandbox.NewList(std::move(items)));
  return list.list();
}

}  // namespace comet::jinja
