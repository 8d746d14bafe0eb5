#include "engine/chat_template/operators.h"

#include <algorithm>
#include <cmath>

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
  if (op == Operator::kAdd && left.is_sequence()) return Concatenate(sandbox, left, right);
  if (op == Operator::kMultiply && left.is_sequence() && right.is_integral()) {
    return Repeat(sandbox, left, right.as_integer());
  }
  if (op == Operator::kMultiply && right.is_sequence() && left.is_integral()) {
    return Repeat(sandbox, right, left.as_integer());
  }
  if (op == Operator::kModulo && left.is(Kind::kString)) {
    return Unimplemented("formatting strings with % is not supported; use ~ or format()");
  }
  return BadOperands(op, left, right);
}

}  // namespace comet::jinja
